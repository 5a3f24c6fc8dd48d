/**
 * A Node process that is killed again and again and started anew with the same environment. It says
 * `{ type: 'ready', url }` over IPC once it serves.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { handOverMessage, type KillPoint, toArmMessage } from './kill-point.ts'

export interface CrashingOptions {
  readonly entry: string
  readonly args: readonly string[]
  /** Modules loaded before the entry. */
  readonly preload: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** Where its log goes; absent = its last lines are kept here. */
  readonly logPath?: string
  /** Sees what a preloaded module says, beside the messages that are known here. */
  readonly onMessage?: (message: unknown) => void
  /** Hears all that it writes to its log, in pieces of any length. */
  readonly onLog?: (text: string) => void
}

const readyMessage = z.object({ type: z.literal('ready'), url: z.string() })
const firedMessage = z.object({ type: z.literal('fired') })
const LOG_LINES_KEPT = 20
const STARTS_MAX = 10
const START_PAUSE_MS = 200

export class CrashingProcess {
  /** Tokens that it handed over, by request, as far as it lived to say so. */
  readonly handedOver = new Map<string, number>()
  readonly #options: CrashingOptions
  #child: ChildProcess | null = null
  #gone: Promise<unknown> = Promise.resolve()
  #log: string[] = []
  #onFired = (): void => {}

  constructor(options: CrashingOptions) {
    this.#options = options
  }

  /** Resolves when it is ready. Rejects, with its last words, when it exits before. */
  async start(): Promise<void> {
    const { entry, args, preload, env, logPath } = this.#options
    const log = logPath === undefined ? null : openSync(logPath, 'a')
    const child = fork(entry, args, {
      execArgv: preload.flatMap((path) => ['--import', path]),
      env: { ...env },
      stdio: ['ignore', 'ignore', log ?? 'pipe', 'ipc'],
    })
    if (log !== null) closeSync(log)
    this.#child = child
    this.#log = []
    child.stderr?.on('data', (bytes) => {
      if (process.env.NOZZLE_BENCH_LOG !== undefined) process.stderr.write(`${child.pid} ${bytes}`)
      this.#options.onLog?.(String(bytes))
      this.#log = [...this.#log, ...String(bytes).trim().split('\n')].slice(-LOG_LINES_KEPT)
    })
    const exited = once(child, 'exit')
    this.#gone = exited
    const ready = new Promise<void>((resolve) => {
      child.on('message', (message) => {
        if (readyMessage.safeParse(message).success) resolve()
        if (firedMessage.safeParse(message).success) this.#onFired()
        const { data } = handOverMessage.safeParse(message)
        if (data !== undefined) this.#noteHandOver(data.request_id, data.tokens)
        this.#options.onMessage?.(message)
      })
    })
    const early = exited.then(() => {
      const said = logPath === undefined ? this.#log.join('\n') : `see ${logPath}`
      throw new Error(`${entry} ended before it was ready:\n${said}`)
    })
    await Promise.race([ready, early])
    early.catch(() => {})
  }

  /** As a supervisor does: an edge that finds its database in recovery exits, and starts again. */
  async startSupervised(): Promise<void> {
    for (let starts = 1; ; starts++) {
      try {
        return await this.start()
      } catch (error) {
        if (starts === STARTS_MAX) throw error
        await sleep(START_PAUSE_MS)
      }
    }
  }

  /** Throws when it does not run. */
  get pid(): number {
    const { pid } = this.#child ?? {}
    if (pid === undefined || !this.isRunning) throw new Error('the process does not run')
    return pid
  }

  get isRunning(): boolean {
    const child = this.#child
    return child !== null && child.exitCode === null && child.signalCode === null
  }

  /** Resolves when the point was reached (see KillPoint), whoever died of it. */
  arm(point: KillPoint): Promise<unknown> {
    const fired = new Promise<void>((resolve) => {
      this.#onFired = resolve
    })
    this.tell(toArmMessage(point))
    return Promise.race([fired, this.#gone])
  }

  disarm(): void {
    this.#onFired = () => {}
    if (this.isRunning) this.tell(toArmMessage(null))
  }

  /** A message to one of its preloaded modules. */
  tell(message: object): void {
    // Whoever has just died needs no word.
    this.#child?.send(message, () => {})
  }

  signal(name: 'SIGSTOP' | 'SIGCONT' | 'SIGTERM'): void {
    process.kill(this.pid, name)
  }

  /** SIGTERM; resolves when the process has gone, in its own time. */
  async end(): Promise<void> {
    this.signal('SIGTERM')
    await this.#gone
  }

  /** SIGKILL; resolves when the process has gone. */
  async kill(): Promise<void> {
    this.#child?.kill('SIGKILL')
    await this.#gone
  }

  #noteHandOver(requestId: string, tokens: number): void {
    this.handedOver.set(requestId, Math.max(tokens, this.handedOver.get(requestId) ?? 0))
  }
}
