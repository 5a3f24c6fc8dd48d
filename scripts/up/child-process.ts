/**
 * One supervised process of an embedded pool: started, restarted when it dies unasked (1 s doubling
 * to 30 s), stopped with SIGTERM and, past a deadline, SIGKILL. Its output goes to a log file.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync } from 'node:fs'

const RESTART_DELAY_MIN_MS = 250
const RESTART_DELAY_MAX_MS = 30_000
/** A process that ran this long had a good start: its next restart is immediate again. */
const STABLE_AFTER_MS = 30_000
const STOP_TIMEOUT_MS = 130_000

export interface SupervisedProcess {
  readonly name: string
  readonly pid: number | null
  /** Resolves when the process has gone; never restarts it again. */
  stop(): Promise<void>
}

export interface SupervisedOptions {
  readonly name: string
  readonly entry: string
  readonly env: Record<string, string>
  readonly logPath: string
  /** Told of each unasked exit, before the restart. */
  readonly onExit: (detail: string) => void
}

export function superviseProcess(options: SupervisedOptions): SupervisedProcess {
  let isStopping = false
  let delayMs = RESTART_DELAY_MIN_MS
  let child: ChildProcess | null = null
  let timer: NodeJS.Timeout | null = null

  const start = (): void => {
    const startedAt = Date.now()
    const log = openSync(options.logPath, 'a', 0o600)
    child = spawn(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', options.entry],
      // Own process group: a terminal's Ctrl-C reaches the supervisor alone, which stops in order.
      { env: options.env, stdio: ['ignore', log, log], detached: true },
    )
    child.on('exit', (code, signal) => {
      child = null
      if (isStopping) return
      options.onExit(signal ? `killed by ${signal}` : `exit code ${code}`)
      if (Date.now() - startedAt > STABLE_AFTER_MS) delayMs = RESTART_DELAY_MIN_MS
      timer = setTimeout(start, delayMs)
      delayMs = Math.min(delayMs * 2, RESTART_DELAY_MAX_MS)
    })
  }
  start()

  return {
    name: options.name,
    get pid() {
      return child?.pid ?? null
    },
    async stop() {
      isStopping = true
      if (timer) clearTimeout(timer)
      if (!child || child.exitCode !== null) return
      const gone = once(child, 'exit')
      child.kill('SIGTERM')
      const killer = setTimeout(() => child?.kill('SIGKILL'), STOP_TIMEOUT_MS)
      await gone
      clearTimeout(killer)
    },
  }
}
