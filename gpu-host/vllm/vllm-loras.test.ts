import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { convert, VECTOR_BASE, vectorDirectory } from '../adapters/test/support/vectors.ts'
import type { AdapterImage } from '../engine.ts'
import { createRandom } from '../test/support/random.ts'
import { VllmError } from './vllm-errors.ts'
import { VllmLoras } from './vllm-loras.ts'

const directories: string[] = []
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true })
})

/** Takes a few turns for each call, more to unload, and minds who is called meanwhile. */
class SlowServer {
  readonly has = new Set<string>()
  readonly #busy = new Set<string>()
  most = 0
  isAway = false

  async loadLora(name: string): Promise<void> {
    await this.#call(name, 3, () => this.has.add(name))
    this.most = Math.max(this.most, this.has.size)
  }

  async unloadLora(name: string): Promise<void> {
    await this.#call(name, 30, () => this.has.delete(name))
  }

  async #call(name: string, turns: number, work: () => unknown): Promise<void> {
    if (this.#busy.has(name)) throw new Error(`two calls at once for ${name}`)
    this.#busy.add(name)
    for (let count = 0; count < turns; count += 1) await turn()
    this.#busy.delete(name)
    if (this.isAway) throw new VllmError('unreachable', 'away')
    work()
  }
}

function create(slotCount: number) {
  const directory = mkdtempSync(join(tmpdir(), 'nozzle-loras-'))
  directories.push(directory)
  const server = new SlowServer()
  const loras = new VllmLoras({
    info: VECTOR_BASE,
    limits: { slotCount, slotBytes: 1e9, rankMax: 16 },
    client: server,
    log: () => {},
    directory,
    serverDirectory: '/there',
  })
  return { server, loras, directory }
}

const plain = await convert(vectorDirectory('one-layer'))

function imageOf(number: number): AdapterImage {
  const digest = `sha256:${number.toString(16).padStart(64, '0')}`
  return { ...plain, manifest: { ...plain.manifest, digest } }
}

const digestOf = (number: number): string => imageOf(number).manifest.digest
const nameOf = (number: number): string => digestOf(number).slice(7)

describe('the adapters of a vLLM server', () => {
  it('never calls twice at once for a name, nor holds more than there are places', async () => {
    const { server, loras, directory } = create(2)
    const random = createRandom(1)
    // As the slot pool does: a place is cleared, then filled; an adapter has one place.
    const held: (number | null)[] = [null, null]
    for (let step = 0; step < 40; step += 1) {
      const slot = Math.floor(random() * 2)
      const number = Math.floor(random() * 3)
      if (held.includes(number)) continue
      loras.clearSlot(slot)
      held[slot] = number
      await loras.loadSlot(slot, imageOf(number))
      await Promise.all([loras.ensure(digestOf(number)), loras.ensure(digestOf(number))])
    }
    await loras.settled()
    expect(server.most).toBe(2)
    const names = held.flatMap((number) => (number === null ? [] : [nameOf(number)])).sort()
    expect([...server.has].sort()).toEqual(names)
    expect(readdirSync(directory).sort()).toEqual(names)
  })

  it('loads what has a place again, once, when the server has lost it', async () => {
    const { server, loras } = create(2)
    await loras.loadSlot(1, imageOf(1))
    server.has.clear()
    loras.forgetAll()
    expect(loras.isRegistered(digestOf(1))).toBe(false)
    await Promise.all([loras.restore(), loras.ensure(digestOf(1)), loras.ensure(digestOf(1))])
    expect([...server.has]).toEqual([nameOf(1)])
    expect(loras.isRegistered(digestOf(1))).toBe(true)
  })

  it('says of a server that is away another thing than of an adapter that it cannot load', async () => {
    const { server, loras } = create(2)
    server.isAway = true
    await expect(loras.loadSlot(1, imageOf(1))).rejects.toMatchObject({ code: 'engine_failed' })
  })

  it('holds its books against what the server has', async () => {
    const { server, loras } = create(2)
    await loras.loadSlot(1, imageOf(1))
    const model = (name: string, root = `/there/${name}`) => ({ id: name, root, parent: 'base' })
    server.has.add(nameOf(2))
    server.has.add(nameOf(3))
    // Of the first nothing is listed, the second is a leftover of ours, the third somebody else's.
    loras.reconcile([model(nameOf(2)), model(nameOf(3), '/elsewhere')])
    await loras.settled()
    expect(loras.isRegistered(digestOf(1))).toBe(false)
    expect(server.has.has(nameOf(2))).toBe(false)
    expect(server.has.has(nameOf(3))).toBe(true)
  })
})
