/**
 * A host as a process: tells its log and its supervisor where it listens, drains on SIGTERM, on
 * SIGINT and when the supervisor goes away, and never hangs: a second signal, or a drain that takes
 * too long, exits at once. The journal makes an early exit safe. A host that ends by itself has an
 * exit code of its own for each reason.
 */
import type { Host, HostLoss } from './host.ts'
import { errorText, type Log } from './log.ts'

/** Beyond the drain grace, for sockets, the last shipment and the engine. */
const EXIT_SLACK_MS = 20_000

/** What a supervisor sees of a host that ended by itself: start it anew, or look who has its id. */
export const LOSS_EXIT_CODES: Readonly<Record<HostLoss, number>> = {
  journal_failed: 3,
  host_epoch_stale: 4,
}

export interface HostProcessOptions {
  readonly host: Host
  readonly log: Log
  readonly drainGraceMs: number
  /** For the supervisor to show, e.g. the device and its memory. */
  readonly summary?: string
}

/** Resolves once the host listens; from then on signals end the process. */
export async function runHostProcess({
  host,
  log,
  drainGraceMs,
  summary,
}: HostProcessOptions): Promise<void> {
  let isStopping = false
  let signals = 0
  let exitCode = 0
  const stop = (reason: string): void => {
    if (isStopping) return
    isStopping = true
    log('info', 'draining', { reason })
    setTimeout(() => {
      log('error', 'the drain took too long: exiting now')
      process.exit(exitCode === 0 ? 1 : exitCode)
    }, drainGraceMs + EXIT_SLACK_MS).unref()
    host.stop().then(
      () => process.exit(exitCode),
      (error: unknown) => {
        log('error', 'the host did not stop cleanly', { reason: errorText(error) })
        process.exit(1)
      },
    )
  }
  const onSignal = (signal: NodeJS.Signals): void => {
    signals += 1
    if (signals > 1) {
      log('warn', 'second signal: exiting now', { signal })
      process.exit(1)
    }
    stop(signal)
  }
  void host.lost.then((loss) => {
    exitCode = LOSS_EXIT_CODES[loss]
    stop(loss)
  })
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
  // Not counted as a signal: a supervisor may send one and be gone before it is seen.
  process.on('disconnect', () => stop('the supervisor is gone'))
  await host.listen()
  log('info', 'host ready', { url: host.url, epoch: host.journal.epoch })
  process.send?.({ type: 'ready', url: host.url, ...(summary ? { summary } : {}) })
}
