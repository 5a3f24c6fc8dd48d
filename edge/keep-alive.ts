/**
 * Lets work outlive the request that began it: `waitUntil` in a Worker, which would stop it with
 * the request; nothing on Node.
 */
export type KeepAlive = (work: Promise<void>) => void
