/**
 * The alternative that sleeps: one machine per model that starts when a request comes and leaves
 * when none has run for a while. Replays the real arrivals. Pure.
 *
 * It is told kindly: a machine serves any number of requests at once, each as long as it took in
 * the pool without its time in the queue, and is always to be had.
 */

/** A request, or several that follow each other closely enough to keep the machine. */
export interface Run {
  readonly startMs: number
  /** When its last request would have ended, had none waited. */
  readonly endMs: number
  readonly requests: number
}

export interface SleepingMachine {
  /** From the request that starts a machine to its being ready. */
  readonly coldStartMs: number
  /** It stays this long after its last request. */
  readonly keepWarmMs: number
  /** What it does after this moment is not counted. */
  readonly untilMs: number
}

export interface ScaleToZeroUse {
  readonly coldStarts: number
  /** Machine time that is paid: cold starts, requests and the time kept warm. */
  readonly upMs: number
  /** Requests that came while the machine was starting. */
  readonly delayedRequests: number
  /** Sum of what those waited. */
  readonly waitedMs: number
}

/**
 * `runs` of one model in the order of their starts. A run of several requests must begin after the
 * cold start that it may follow: its requests are not told apart.
 */
export function replayScaleToZero(runs: readonly Run[], machine: SleepingMachine): ScaleToZeroUse {
  const { coldStartMs, keepWarmMs, untilMs } = machine
  let [coldStarts, upMs, delayedRequests, waitedMs] = [0, 0, 0, 0]
  let upSinceMs = 0
  let readyMs = 0
  /** null = no machine was ever started. */
  let warmUntilMs: number | null = null
  const stop = (): void => {
    if (warmUntilMs !== null) upMs += Math.max(0, Math.min(warmUntilMs, untilMs) - upSinceMs)
  }
  for (const { startMs, endMs, requests } of runs) {
    if (warmUntilMs === null || startMs > warmUntilMs) {
      stop()
      coldStarts += 1
      upSinceMs = startMs
      readyMs = startMs + coldStartMs
      warmUntilMs = readyMs + keepWarmMs
    }
    const waitMs = Math.max(0, readyMs - startMs)
    if (waitMs > 0) {
      delayedRequests += requests
      waitedMs += waitMs * requests
    }
    warmUntilMs = Math.max(warmUntilMs, endMs + waitMs + keepWarmMs)
  }
  stop()
  return { coldStarts, upMs, delayedRequests, waitedMs }
}
