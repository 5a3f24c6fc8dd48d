/**
 * Waiting that counts only the time in which this process runs. A limit on somebody else's silence
 * must not run out while this process is stopped or starved: then what was said lies unread.
 */

const SLICE_MS = 50

/**
 * Resolves after `ms`, in as many turns of the event loop as such a time usually has, so later
 * where the turns are long; or soon after `isOver` holds.
 */
export async function ownTime(ms: number, isOver: () => boolean): Promise<void> {
  for (let leftMs = ms; leftMs > 0 && !isOver(); leftMs -= SLICE_MS) {
    await new Promise((resolve) => setTimeout(resolve, Math.min(leftMs, SLICE_MS)))
  }
}
