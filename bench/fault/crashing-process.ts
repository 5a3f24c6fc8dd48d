/**
 * A Node process that is killed again and again and started anew with the same environment. It says
 * `{ type: 'ready', url }` over IPC once it serves.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { z } from 'zod'
import { handOverMessage, type KillPoint, toArmMessage } from './kill-point.ts'

export interface CrashingOptions {
  readonly entry: string
  readonly args: readonly string[]
  /** Modules loaded before the entry. */
  readonly preload: readonly string[]
  readonly env: Readonly<Record<string, string>>
}

const readyMessage = z.object({ type: z.literal('ready'), url: z.string() })
const firedMessage = z.object({ type: z.literal('fired') })
const LOG_LINES_KEPT = 20

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
    const { entry, args, preload, env } = this.#options
    const child = fork(entry, args, {
      execArgv: preload.flatMap((path) => ['--import', path]),
      env: { ...env },
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    })
    this.#child = child
    this.#log = []
    child.stderr?.on('data', (bytes) => {
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
      })
    })
    const early = exited.then(() => {
      throw new Error(`${entry} ended before it was ready:\n${this.#log.join('\n')}`)
    })
    await Promise.race([ready, early])
    early.catch(() => {})
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
    this.#send(point)
    return Promise.race([fired, this.#gone])
  }

  disarm(): void {
    this.#onFired = () => {}
    if (this.isRunning) this.#send(null)
  }

  /** SIGKILL; resolves when the process has gone. */
  async kill(): Promise<void> {
    this.#child?.kill('SIGKILL')
    await this.#gone
  }

  #noteHandOver(requestId: string, tokens: number): void {
    this.handedOver.set(requestId, Math.max(tokens, this.handedOver.get(requestId) ?? 0))
  }

  #send(point: KillPoint | null): void {
    // Whoever has just died needs no word.
    this.#child?.send(toArmMessage(point), () => {})
  }
}
