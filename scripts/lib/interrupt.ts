/**
 * Signals as two AbortSignals: `stop` on the first SIGINT, SIGTERM or SIGHUP, and when the parent
 * process is gone; `hurry` on a second one.
 */
import { once } from 'node:events'

/** One Ctrl-C arrives several times: from the terminal, from npm, from bootstrap.mjs. */
const SAME_SIGNAL_MS = 500

export interface Interrupts {
  readonly stop: AbortSignal
  readonly hurry: AbortSignal
}

type SignalSource = Pick<NodeJS.Process, 'on'>

export function watchInterrupts(source: SignalSource, nowMs: () => number): Interrupts {
  const stop = new AbortController()
  const hurry = new AbortController()
  let firstAtMs: number | null = null
  const interrupt = (): void => {
    if (firstAtMs === null) {
      firstAtMs = nowMs()
      stop.abort()
    } else if (nowMs() - firstAtMs > SAME_SIGNAL_MS) {
      hurry.abort()
    }
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) source.on(signal, interrupt)
  source.on('disconnect', interrupt)
  return { stop: stop.signal, hurry: hurry.signal }
}

/** Resolves when the signal is aborted, at once if it is already. */
export async function whenAborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort')
}
