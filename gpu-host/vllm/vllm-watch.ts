/**
 * Whether the vLLM server is there. Asked every second, and at once when a request finds it away.
 * What it had loaded is forgotten when it goes: whatever comes back has none of it.
 */
import { type Clock, sleep } from '../clock.ts'
import { errorText, type Log } from '../log.ts'
import type { VllmClient } from './vllm-client.ts'
import type { VllmLoras } from './vllm-loras.ts'

export interface VllmWatchOptions {
  readonly client: Pick<VllmClient, 'assertHealthy' | 'models'>
  readonly loras: Pick<VllmLoras, 'forgetAll' | 'reconcile' | 'restore'>
  readonly clock: Clock
  readonly log: Log
}

const INTERVAL_MS = 1000

export class VllmWatch {
  readonly #options: VllmWatchOptions
  readonly #end = new AbortController()
  #isUp = true
  #running: Promise<void> | null = null

  constructor(options: VllmWatchOptions) {
    this.#options = options
  }

  get isUp(): boolean {
    return this.#isUp
  }

  start(): void {
    this.#running ??= this.#run()
  }

  /** A call found the server away. */
  lost(reason: unknown): void {
    if (!this.#isUp) return
    this.#isUp = false
    this.#options.loras.forgetAll()
    this.#options.log('error', 'the vLLM server is away', { reason: errorText(reason) })
  }

  async stop(): Promise<void> {
    this.#end.abort()
    await this.#running
  }

  async #run(): Promise<void> {
    const { clock } = this.#options
    const { signal } = this.#end
    while (!signal.aborted) {
      await sleep(clock, INTERVAL_MS, signal)
      if (!signal.aborted) await this.#look()
    }
  }

  async #look(): Promise<void> {
    const { client, loras, log } = this.#options
    try {
      await client.assertHealthy()
      const models = await client.models()
      loras.reconcile(models)
      if (this.#isUp) return
      log('info', 'the vLLM server is back')
      this.#isUp = true
      await loras.restore()
    } catch (error) {
      this.lost(error)
    }
  }
}
