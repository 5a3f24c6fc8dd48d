/**
 * The adapters that the vLLM server has, by our own books: it does not say what it holds where. One
 * adapter is one place (a "slot" to the adapter tiers above), one folder that the server reads, and
 * one name there, which is the adapter's digest: a name never comes to mean other weights, so the
 * server's prefix cache cannot answer for what went before.
 *
 * Of one name, never two calls at once; a place is not filled before what it held is gone from the
 * server. A server that starts anew has none of them: `forgetAll`, then `restore`; whoever needs
 * one sooner asks `ensure` for it, which loads it again from the folder that still stands.
 */
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { digestHex, digestOfHex } from '../adapters/adapter-digest.ts'
import type { AdapterTarget } from '../adapters/base-shape.ts'
import type { AdapterImage, Engine } from '../engine.ts'
import { HostError } from '../errors.ts'
import { errorText, type Log } from '../log.ts'
import { removeFolder, writePeftFolder } from './peft-folder.ts'
import type { VllmClient, VllmModel } from './vllm-client.ts'
import { serverFailed, VllmError } from './vllm-errors.ts'

export interface VllmLorasOptions extends AdapterTarget {
  readonly client: Pick<VllmClient, 'loadLora' | 'unloadLora'>
  readonly log: Log
  /** For the adapters' folders: where this host has it, and where the server does. */
  readonly directory: string
  readonly serverDirectory: string
}

const NAME = /^[0-9a-f]{64}$/

export class VllmLoras implements AdapterTarget, Pick<Engine, 'loadSlot' | 'clearSlot'> {
  readonly info: AdapterTarget['info']
  readonly limits: AdapterTarget['limits']
  readonly #options: VllmLorasOptions
  /** By slot. */
  readonly #names = new Map<number, string>()
  /** By slot: what it held is on its way out. */
  readonly #leaving = new Map<number, Promise<void>>()
  /** By name: the last of its calls. */
  readonly #calls = new Map<string, Promise<void>>()
  readonly #registered = new Set<string>()

  constructor(options: VllmLorasOptions) {
    this.#options = options
    this.info = options.info
    this.limits = options.limits
  }

  /** Before anything is served: removes what a former life of this host left. */
  async clean(models: readonly VllmModel[]): Promise<void> {
    const { directory, client } = this.#options
    await mkdir(directory, { recursive: true })
    for (const name of await readdir(directory)) await removeFolder(join(directory, name))
    for (const { id } of models.filter((model) => this.#isOurs(model))) await client.unloadLora(id)
  }

  isRegistered(digest: string): boolean {
    return this.#registered.has(toName(digest))
  }

  /** Writes the adapter's folder and has the server load it. Rejects with HostError. */
  async loadSlot(slot: number, image: AdapterImage): Promise<void> {
    const name = toName(image.manifest.digest)
    await this.#leaving.get(slot)
    this.#names.set(slot, name)
    await this.#inTurn(name, async () => {
      await writePeftFolder(join(this.#options.directory, name), image)
      await this.#register(name)
    })
  }

  clearSlot(slot: number): void {
    const name = this.#names.get(slot)
    if (name === undefined) return
    this.#names.delete(slot)
    const leaving = this.#inTurn(name, () => this.#remove(name)).catch((error: unknown) => {
      this.#options.log('warn', 'adapter not removed', { name, reason: errorText(error) })
    })
    this.#leaving.set(slot, leaving)
  }

  /** For an adapter that has a place: that the server has it too. Rejects with HostError. */
  async ensure(digest: string): Promise<void> {
    const name = toName(digest)
    if (this.#registered.has(name)) return
    await this.#inTurn(name, async () => {
      if (!this.#registered.has(name)) await this.#register(name)
    })
  }

  /** What the server calls it. */
  nameOf(digest: string): string {
    return toName(digest)
  }

  /** The server says that it does not have it. */
  forget(digest: string): void {
    this.#registered.delete(toName(digest))
  }

  /** The server was away: what it comes back with is another life's. */
  forgetAll(): void {
    this.#registered.clear()
  }

  /** Gives a server that is back what has a place; what fails is loaded when it is needed. */
  async restore(): Promise<void> {
    for (const name of [...this.#names.values()]) {
      await this.ensure(digestOfHex(name)).catch((error: unknown) => {
        this.#options.log('warn', 'adapter not loaded again', { name, reason: errorText(error) })
      })
    }
  }

  /** Holds the books against what the server has registered. */
  reconcile(models: readonly VllmModel[]): void {
    const has = new Set(models.map(({ id }) => id))
    for (const name of this.#registered) {
      if (!has.has(name) && !this.#calls.has(name)) this.#registered.delete(name)
    }
    const known = new Set(this.#names.values())
    for (const { id } of models.filter((model) => this.#isOurs(model))) {
      if (known.has(id) || this.#calls.has(id)) continue
      this.#inTurn(id, () => this.#remove(id)).catch(() => {})
    }
  }

  /** Resolves when no call is under way. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#calls.values())
  }

  #isOurs({ id, root }: VllmModel): boolean {
    return NAME.test(id) && root === this.#serverPath(id)
  }

  #serverPath(name: string): string {
    return join(this.#options.serverDirectory, name)
  }

  async #register(name: string): Promise<void> {
    try {
      await this.#options.client.loadLora(name, this.#serverPath(name))
    } catch (error) {
      throw toLoadError(error)
    }
    this.#registered.add(name)
  }

  async #remove(name: string): Promise<void> {
    this.#registered.delete(name)
    try {
      await this.#options.client.unloadLora(name)
    } finally {
      await removeFolder(join(this.#options.directory, name))
    }
  }

  async #inTurn(name: string, work: () => Promise<void>): Promise<void> {
    const call = (this.#calls.get(name) ?? Promise.resolve()).then(work, work)
    const settled = call.catch(() => {})
    this.#calls.set(name, settled)
    try {
      await call
    } finally {
      if (this.#calls.get(name) === settled) this.#calls.delete(name)
    }
  }
}

function toName(digest: string): string {
  const hex = digestHex(digest)
  if (hex === null) throw new Error('not a digest')
  return hex
}

/** A server that does not answer is another matter than an adapter that it cannot take. */
function toLoadError(error: unknown): HostError {
  if (!(error instanceof VllmError) || error.failure === 'unreachable') return serverFailed(error)
  const message = 'the vLLM server did not load the adapter'
  return new HostError('adapter_load_failed', message, { cause: error })
}
