/**
 * Waiting that counts only the time in which this process runs. A limit on somebody else's silence
 * must not run out while this process is stopped or starved: then what was said lies unread.
 */

const SLICE_MS = 50

/**
 * Resolves after `ms`, in as many turns of the event loop as such a time usually has, so later
 * where the turns are long; or soon after `isOver` holds. What came by the end of it is read.
 */
export async function ownTime(ms: number, isOver: () => boolean): Promise<void> {
  for (let leftMs = ms; leftMs > 0 && !isOver(); leftMs -= SLICE_MS) {
    await new Promise((resolve) => setTimeout(resolve, Math.min(leftMs, SLICE_MS)))
  }
  if (!isOver()) await readPending()
}

/**
 * Resolves when what lies in the sockets is read: after a delay of this process its timers are
 * called before its sockets. The first turn may have begun after them, the second has not.
 */
export async function readPending(): Promise<void> {
  for (let turn = 0; turn < 2; turn++) {
    await new Promise<void>(nextTurn)
  }
}

/**
 * Node calls an immediate only after the sockets had their turn; a timer may follow other late
 * timers at once. workerd may have no immediates.
 */
function nextTurn(resolve: () => void): void {
  if ('setImmediate' in globalThis) setImmediate(resolve)
  else setTimeout(resolve, 0)
}
