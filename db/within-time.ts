/** How long to wait for a promise. Plain timers, so that it runs in Node and in a Worker. */

/**
 * null = not yet; the promise goes on, and can still be awaited. What arrived while this process
 * was too busy to look came in time: it is read before the last millisecond counts as over.
 */
export async function withinTime<T>(promise: Promise<T>, ms: number): Promise<T | null> {
  let timer: ReturnType<typeof setTimeout> | null = null
  const timeout = new Promise<null>((resolve) => {
    timer = setTimeout(() => {
      timer = setTimeout(() => resolve(null), 1)
    }, ms - 1)
  })
  try {
    return await Promise.race([promise, timeout])
  } finally {
    if (timer !== null) clearTimeout(timer)
  }
}
