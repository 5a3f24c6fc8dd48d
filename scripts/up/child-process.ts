/**
 * One supervised process of an embedded pool: started, restarted when it dies unasked, stopped with
 * SIGTERM and, past a deadline, SIGKILL. It says `{ type: 'ready', url }` over IPC once it serves;
 * a process that dies again and again before that fails the start. Its output goes to a log file.
 *
 *   starting → serving → stopping → gone
 *      ↑__________| died (250 ms doubling to 30 s)
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, fstatSync } from 'node:fs'
import { z } from 'zod'
import { CliError } from '../lib/cli-error.ts'
import { openLog, readLastWords, readLogTail } from './log-file.ts'

const RESTART_DELAY_MIN_MS = 250
const RESTART_DELAY_MAX_MS = 30_000
/** A process that ran this long had a good start: its next restart is quick again. */
const STABLE_AFTER_MS = 30_000
/** Deaths before the first `ready` that fail the start. */
const STARTS_MAX = 3
/** Beyond the longest drain that a host allows itself by default. */
const STOP_TIMEOUT_MS = 130_000
const HURRY_TIMEOUT_MS = 2000
const LOG_LINES_SHOWN = 12
/** What a child says of its environment, or of a port in use: trying again cannot help. */
const EXIT_CONFIGURATION = 2

const readyMessage = z.object({
  type: z.literal('ready'),
  url: z.url(),
  summary: z.string().max(1000).optional(),
})

export interface SupervisedOptions {
  readonly name: string
  readonly entry: string
  /** Not read by the entry: shows in process lists whose child it is. */
  readonly args: readonly string[]
  /** @param boundUrl where it served before; null at the first start. */
  readonly env: (boundUrl: string | null) => Record<string, string>
  readonly logPath: string
  readonly note: (text: string) => void
  /** Told of each process that is started. */
  readonly onStart: (pid: number) => void
}

export class SupervisedProcess {
  readonly #options: SupervisedOptions
  readonly #ready = Promise.withResolvers<string>()
  #child: ChildProcess | null = null
  #url: string | null = null
  #timer: NodeJS.Timeout | null = null
  #isStopping = false
  #isRestarting = false
  #startsFailed = 0
  /** Where its log stood at the last start: what is before it another run wrote. */
  #logFrom = 0
  #delayMs = RESTART_DELAY_MIN_MS

  constructor(options: SupervisedOptions) {
    this.#options = options
    // Nobody may be waiting when the start fails during a stop.
    this.#ready.promise.catch(() => {})
    this.#start()
  }

  /** Where it serves, after its first start. Rejects when it cannot start. */
  get ready(): Promise<string> {
    return this.#ready.promise
  }

  get name(): string {
    return this.#options.name
  }

  get pid(): number | null {
    return this.#child?.pid ?? null
  }

  /** Ends the process, which drains first, and starts it anew. */
  restart(): void {
    if (this.#child === null) return
    this.#isRestarting = true
    this.#child.kill('SIGTERM')
  }

  /** Resolves when the process has gone; it is not started again. `hurry` cuts its drain short. */
  async stop(hurry: AbortSignal): Promise<void> {
    this.#isStopping = true
    if (this.#timer) clearTimeout(this.#timer)
    this.#ready.reject(new CliError('interrupted', `${this.#options.name} was stopped`))
    const child = this.#child
    if (!child) return
    const gone = once(child, 'exit')
    child.kill('SIGTERM')
    let killer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS)
    const hasten = (): void => {
      child.kill('SIGTERM')
      clearTimeout(killer)
      killer = setTimeout(() => child.kill('SIGKILL'), HURRY_TIMEOUT_MS)
    }
    if (hurry.aborted) hasten()
    hurry.addEventListener('abort', hasten)
    await gone
    clearTimeout(killer)
    hurry.removeEventListener('abort', hasten)
  }

  #start(): void {
    const { entry, args, env, logPath, onStart } = this.#options
    const startedAtMs = performance.now()
    const log = openLog(logPath)
    this.#logFrom = fstatSync(log).size
    const child = spawn(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', entry, ...args],
      // Own process group: a terminal's Ctrl-C reaches the supervisor alone, which stops in order.
      { env: env(this.#url), stdio: ['ignore', log, log, 'ipc'], detached: true },
    )
    closeSync(log)
    this.#child = child
    if (child.pid !== undefined) onStart(child.pid)
    let isReady = false
    child.on('message', (message) => {
      const parsed = readyMessage.safeParse(message)
      if (!parsed.success) return
      isReady = true
      const { summary } = parsed.data
      if (summary) this.#options.note(`${this.name}: ${summary}`)
      this.#url = parsed.data.url
      this.#ready.resolve(parsed.data.url)
    })
    child.on('exit', (code, signal) => {
      this.#child = null
      if (this.#isStopping) return
      if (this.#isRestarting) {
        this.#isRestarting = false
        this.#start()
        return
      }
      if (performance.now() - startedAtMs > STABLE_AFTER_MS) this.#delayMs = RESTART_DELAY_MIN_MS
      if (code === EXIT_CONFIGURATION && this.#url === null) {
        this.#ready.reject(this.#toConfigurationError())
        return
      }
      this.#onDeath(signal ? `killed by ${signal}` : `exit code ${code}`, isReady)
    })
  }

  /** In the child's own words: the last line of its log. */
  #toConfigurationError(): CliError {
    const { name, logPath } = this.#options
    const words = readLastWords(logPath)
    const fix = words.fix ?? `The whole log: ${logPath}`
    return new CliError('refused', `${name} does not start: ${words.reason}`, fix)
  }

  #onDeath(detail: string, wasReady: boolean): void {
    const { name, logPath, note } = this.#options
    if (!wasReady && this.#url === null) {
      this.#startsFailed += 1
      if (this.#startsFailed >= STARTS_MAX) {
        const tail = readLogTail(logPath, LOG_LINES_SHOWN, { fromByte: this.#logFrom })
        const message = `${name} does not start (${detail}); its log ends with:\n${tail}`
        this.#ready.reject(new CliError('unexpected', message, `The whole log: ${logPath}`))
        return
      }
    }
    note(`${name} died (${detail}); starting it again in ${this.#delayMs} ms. Log: ${logPath}`)
    this.#timer = setTimeout(() => this.#start(), this.#delayMs)
    this.#delayMs = Math.min(this.#delayMs * 2, RESTART_DELAY_MAX_MS)
  }
}
