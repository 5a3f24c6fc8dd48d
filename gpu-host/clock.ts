/**
 * Time as the host sees it: wall clock for records, a monotonic one for durations, and timers.
 * Everything that waits takes a Clock, so tests run on virtual time and never sleep.
 */
import { performance } from 'node:perf_hooks'

export interface Clock {
  /** UTC milliseconds since 1970, an integer. */
  nowMs(): number
  /** Monotonic microseconds, an integer; only differences mean anything. */
  nowUs(): number
  /** Runs `callback` once after `delayMs`; returns the cancel, which may be called at any time. */
  setTimer(delayMs: number, callback: () => void): () => void
}

/** Timers do not keep the process alive: work that must end is awaited, not timed. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  nowUs: () => Math.round(performance.now() * 1000),
  setTimer(delayMs, callback) {
    const timer = setTimeout(callback, delayMs)
    timer.unref()
    return () => clearTimeout(timer)
  },
}

/** The same, but its timers keep the process alive: for tools, which end when their work does. */
export const toolClock: Clock = {
  ...systemClock,
  setTimer(delayMs, callback) {
    const timer = setTimeout(callback, delayMs)
    return () => clearTimeout(timer)
  },
}

/** Resolves after `delayMs`, or at once when `signal` aborts. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve()
    const finish = (): void => {
      cancel()
      signal?.removeEventListener('abort', finish)
      resolve()
    }
    const cancel = clock.setTimer(delayMs, finish)
    signal?.addEventListener('abort', finish, { once: true })
  })
}
