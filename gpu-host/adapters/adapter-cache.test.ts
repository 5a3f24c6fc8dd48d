import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { HostError } from '../errors.ts'
import { Gate } from '../test/support/gate.ts'
import { CacheRig, type CacheRigOptions } from './test/support/cache-rig.ts'
import { createImage, digestOf } from './test/support/images.ts'

const [A, B, C] = [createImage('a'), createImage('b'), createImage('c')] as const

const rigs: CacheRig[] = []
afterEach(() => {
  for (const rig of rigs.splice(0)) rig.remove()
})
async function createRig(options: CacheRigOptions = {}): Promise<CacheRig> {
  const rig = await CacheRig.create(options)
  rigs.push(rig)
  await rig.deploy(A, B, C)
  return rig
}

async function until(isTrue: () => boolean): Promise<void> {
  for (let turn = 0; !isTrue(); turn += 1) {
    if (turn > 10_000) throw new Error('it did not come to that')
    await nextTurn()
  }
}

describe('where an adapter comes from', () => {
  it('is the fastest tier that has it, and each faster one has it afterwards', async () => {
    const rig = await createRig({ slots: 1 })
    expect(rig.cache.locate(digestOf('a'))).toBe('store')
    const first = await rig.acquire(A)
    expect(first).toMatchObject({ source: 'store', slot: 1 })
    expect(first.swapUs).toBeGreaterThan(0)
    const second = await rig.acquire(A)
    expect(second).toMatchObject({ source: 'slot', slot: 1, swapUs: 0 })
    expect(rig.cache.residency()).toEqual([{ digest: digestOf('a'), tier: 'slot' }])
    first.release()
    second.release()
    const other = await rig.acquire(B)
    expect(other.generation).toBeGreaterThan(first.generation)
    expect(rig.cache.locate(digestOf('a'))).toBe('ram')
    other.release()
    expect((await rig.acquire(A)).source).toBe('ram')
    expect(rig.store.gets).toHaveLength(2)
  })

  it('is the disk when the RAM tier has let it go', async () => {
    const rig = await createRig({ slots: 1, ramBytesMax: 300 })
    for (const image of [A, B]) (await rig.acquire(image)).release()
    expect(rig.cache.locate(digestOf('a'))).toBe('disk')
    expect((await rig.acquire(A)).source).toBe('disk')
    expect(rig.store.gets).toHaveLength(2)
  })

  it('is RAM after a prefetch', async () => {
    const rig = await createRig()
    await rig.cache.prefetch(digestOf('a'))
    expect(rig.cache.residency()).toEqual([{ digest: digestOf('a'), tier: 'ram' }])
    expect((await rig.acquire(A)).source).toBe('ram')
  })

  it('is the store again when the copy on disk is damaged', async () => {
    const rig = await createRig({ slots: 1, ramBytesMax: 1 })
    ;(await rig.acquire(A)).release()
    ;(await rig.acquire(B)).release()
    const disk = join(rig.directory, 'disk')
    for (const name of readdirSync(disk)) writeFileSync(join(disk, name), 'rubbish')
    const lease = await rig.acquire(A)
    await rig.generate(lease, A, 3)
    expect(rig.store.gets).toEqual([digestOf('a'), digestOf('b'), digestOf('a')])
  })
})

describe('many requests at once', () => {
  it('fetch and load one adapter once', async () => {
    const rig = await createRig()
    const leases = await Promise.all(Array.from({ length: 20 }, () => rig.acquire(A)))
    expect(rig.store.gets).toEqual([digestOf('a')])
    expect(rig.engine.loads).toEqual([digestOf('a')])
    expect(new Set(leases.map(({ slot, generation }) => `${slot}/${generation}`)).size).toBe(1)
    for (const lease of leases) lease.release()
  })

  it('wait for a slot in the order in which they came', async () => {
    const rig = await createRig({ slots: 1 })
    const held = await rig.acquire(A)
    await Promise.all([B, C].map((image) => rig.cache.prefetch(image.manifest.digest)))
    const order: string[] = []
    const wait = async (image: typeof A, name: string): Promise<void> => {
      const lease = await rig.acquire(image)
      order.push(name)
      await rig.generate(lease, image, 2)
      lease.release()
    }
    const waiting = [wait(B, 'b'), wait(C, 'c'), wait(B, 'b')]
    await nextTurn()
    expect(order).toEqual([])
    held.release()
    await Promise.all(waiting)
    expect(order).toEqual(['b', 'b', 'c'])
    expect(rig.engine.loads.map((digest) => digest === digestOf('b'))).toEqual([false, true, false])
  })

  it('never take a pinned slot, however long they wait', async () => {
    const rig = await createRig({ slots: 2 })
    const held = await Promise.all([rig.acquire(A), rig.acquire(B)])
    let isServed = false
    const waiting = rig.acquire(C).then((lease) => {
      isServed = true
      return lease
    })
    await rig.generate(held[0], A, 10)
    await rig.generate(held[1], B, 10)
    expect(isServed).toBe(false)
    held[1].release()
    const lease = await waiting
    expect(lease.slot).toBe(held[1].slot)
    await rig.generate(held[0], A, 3)
  })

  it('release as often as they like without freeing the slot of another', async () => {
    const rig = await createRig({ slots: 1 })
    const [first, second] = await Promise.all([rig.acquire(A), rig.acquire(A)])
    first.release()
    first.release()
    first.release()
    const stop = new AbortController()
    const waiting = rig.acquire(B, stop.signal)
    waiting.catch(() => {})
    await rig.generate(second, A, 5)
    expect(rig.engine.loads).toEqual([digestOf('a')])
    second.release()
    await waiting
  })

  it('hold up no more than four fetches at a time', async () => {
    const rig = await createRig()
    const images = Array.from({ length: 10 }, (_, i) => createImage(`n${i}`))
    await rig.deploy(...images)
    const gate = new Gate()
    rig.store.onGet = gate.pass
    const fetches = images.map((image) => rig.cache.prefetch(image.manifest.digest))
    await until(() => rig.store.gets.length === 4)
    for (let turn = 0; turn < 20; turn += 1) await nextTurn()
    expect(rig.store.gets).toHaveLength(4)
    gate.open()
    await Promise.all(fetches)
    expect(rig.store.gets).toHaveLength(10)
  })
})

describe('what is given up', () => {
  it('is not the adapter that is asked for often, though another was used later', async () => {
    const rig = await createRig({ slots: 2 })
    for (const image of [A, A, A, A, B]) (await rig.acquire(image)).release()
    ;(await rig.acquire(C)).release()
    expect(rig.cache.locate(digestOf('a'))).toBe('slot')
    expect(rig.cache.locate(digestOf('b'))).toBe('ram')
  })

  it('is rather an adapter that RAM still holds than one that must come from disk', async () => {
    const rig = await createRig({ slots: 2, ramBytesMax: 600 })
    for (const image of [A, B]) (await rig.acquire(image)).release()
    // RAM holds two images: from here on A is in its slot and on disk alone.
    await rig.cache.prefetch(digestOf('c'))
    ;(await rig.acquire(C)).release()
    expect(rig.cache.locate(digestOf('a'))).toBe('slot')
    expect(rig.cache.locate(digestOf('b'))).toBe('ram')
  })

  it('is an adapter that a queued request waits for only where there is no other', async () => {
    const rig = await createRig({ slots: 2 })
    for (const image of [B, B, B, A]) (await rig.acquire(image)).release()
    const endWait = rig.cache.wait(digestOf('a'))
    ;(await rig.acquire(C)).release()
    expect(rig.cache.locate(digestOf('a'))).toBe('slot')
    expect(rig.cache.locate(digestOf('b'))).toBe('ram')
    endWait()
    endWait()
    for (let uses = 0; uses < 5; uses += 1) (await rig.acquire(C)).release()
    ;(await rig.acquire(B)).release()
    expect(rig.cache.locate(digestOf('a'))).toBe('ram')
  })
})

describe('a load ahead of its request', () => {
  it('takes a slot that nobody needs, unpinned, and the request finds the adapter there', async () => {
    const rig = await createRig({ slots: 1 })
    await rig.cache.prefetch(digestOf('a'))
    rig.cache.stage(digestOf('a'))
    await until(() => rig.cache.locate(digestOf('a')) === 'slot')
    const lease = await rig.acquire(A)
    expect(lease.source).toBe('slot')
    await rig.generate(lease, A, 2)
    lease.release()
    ;(await rig.acquire(B)).release()
    expect(rig.engine.loads).toEqual([digestOf('a'), digestOf('b')])
  })

  it('leaves pinned slots and adapters that others wait for alone', async () => {
    const rig = await createRig({ slots: 2 })
    const held = await rig.acquire(A)
    ;(await rig.acquire(B)).release()
    await rig.cache.prefetch(digestOf('c'))
    const endWait = rig.cache.wait(digestOf('b'))
    rig.cache.stage(digestOf('c'))
    expect(rig.engine.loads).toHaveLength(2)
    endWait()
    rig.cache.stage(digestOf('c'))
    await until(() => rig.cache.locate(digestOf('c')) === 'slot')
    await rig.generate(held, A, 2)
  })

  it('that fails leaves the slot to the next', async () => {
    const rig = await createRig({ slots: 1 })
    await rig.cache.prefetch(digestOf('a'))
    rig.engine.onLoad = async () => {
      throw new Error('no such luck')
    }
    rig.cache.stage(digestOf('a'))
    await until(() => rig.engine.loads.length === 1)
    rig.engine.onLoad = async () => {}
    await rig.generate(await rig.acquire(A), A, 2)
  })
})

describe('a hint', () => {
  it('is fetched behind everything that is needed, unless it is needed by then', async () => {
    const rig = await createRig()
    const images = Array.from({ length: 7 }, (_, i) => createImage(`n${i}`))
    await rig.deploy(...images)
    const gate = new Gate()
    rig.store.onGet = gate.pass
    const digests = images.map((image) => image.manifest.digest)
    const [first, second, third, fourth, hinted, wanted, promoted] = digests
    const running = [first, second, third, fourth].map((digest) => rig.cache.prefetch(digest ?? ''))
    await until(() => rig.store.gets.length === 4)
    const hints = [hinted, promoted].map((digest) => rig.cache.hint(digest ?? ''))
    const needed = [wanted, promoted].map((digest) => rig.cache.prefetch(digest ?? ''))
    gate.open()
    await Promise.all([...running, ...hints, ...needed])
    expect(rig.store.gets.slice(4).map((digest) => digests.indexOf(digest))).toEqual([6, 5, 4])
  })

  it('is dropped where there are many already', async () => {
    const rig = await createRig()
    const gate = new Gate()
    rig.store.onGet = gate.pass
    const hints = Array.from({ length: 100 }, (_, i) => rig.cache.hint(digestOf(`h${i}`)))
    // Not the fourth place: who needs an adapter finds it free.
    await until(() => rig.store.gets.length === 3)
    const needed = rig.cache.prefetch(digestOf('a'))
    await until(() => rig.store.gets.length === 4)
    expect(rig.store.gets.at(-1)).toBe(digestOf('a'))
    gate.open()
    await Promise.allSettled([...hints, needed])
    expect(rig.store.gets.length).toBe(64 + 1)
  })

  it('takes the place that was kept free once it is needed', async () => {
    const rig = await createRig()
    const gate = new Gate()
    rig.store.onGet = gate.pass
    const hints = Array.from({ length: 4 }, (_, i) => rig.cache.hint(digestOf(`h${i}`)))
    await until(() => rig.store.gets.length === 3)
    const needed = rig.cache.prefetch(digestOf('h3'))
    await until(() => rig.store.gets.length === 4)
    gate.open()
    await Promise.allSettled([...hints, needed])
  })
})

describe('an abort', () => {
  it('ends the wait for a slot, and the next in line gets it', async () => {
    const rig = await createRig({ slots: 1 })
    const held = await rig.acquire(A)
    const stop = new AbortController()
    const left = rig.acquire(B, stop.signal)
    const stays = rig.acquire(C)
    await until(() => rig.cache.locate(digestOf('c')) === 'ram')
    stop.abort()
    await expect(left).rejects.toMatchObject({ code: 'request_aborted' })
    held.release()
    await rig.generate(await stays, C, 2)
    expect(rig.engine.loads).not.toContain(digestOf('b'))
  })

  it('during a load leaves the adapter in its slot, unpinned', async () => {
    const rig = await createRig({ slots: 1 })
    const gate = new Gate()
    rig.engine.onLoad = gate.pass
    const stop = new AbortController()
    const left = rig.acquire(A, stop.signal)
    await until(() => rig.engine.loads.length === 1)
    stop.abort()
    await expect(left).rejects.toMatchObject({ code: 'request_aborted' })
    gate.open()
    await until(() => rig.cache.locate(digestOf('a')) === 'slot')
    ;(await rig.acquire(B)).release()
  })

  it('of one who waits for a fetch leaves the fetch to the others', async () => {
    const rig = await createRig()
    const gate = new Gate()
    rig.store.onGet = gate.pass
    const stop = new AbortController()
    const left = rig.acquire(A, stop.signal)
    const stays = rig.acquire(A)
    await until(() => rig.store.gets.length === 1)
    stop.abort()
    await expect(left).rejects.toMatchObject({ code: 'request_aborted' })
    gate.open()
    await rig.generate(await stays, A, 2)
    expect(rig.store.gets).toHaveLength(1)
  })

  it('before the call costs nothing', async () => {
    const rig = await createRig()
    await expect(rig.acquire(A, AbortSignal.abort())).rejects.toMatchObject({
      code: 'request_aborted',
    })
    expect(rig.store.gets).toEqual([])
  })
})

describe('a failure', () => {
  it('of the store reaches everyone who waits, and is forgotten', async () => {
    const rig = await createRig()
    rig.store.onGet = async () => {
      throw new Error('the network fell over')
    }
    const results = await Promise.allSettled([rig.acquire(A), rig.acquire(A), rig.acquire(A)])
    for (const result of results) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'adapter_load_failed' } })
    }
    expect(rig.store.gets).toHaveLength(1)
    rig.store.onGet = async () => {}
    await rig.generate(await rig.acquire(A), A, 2)
  })

  it('to find an adapter is forgotten once it is deployed', async () => {
    const rig = await createRig()
    const late = createImage('late')
    await expect(rig.acquire(late)).rejects.toMatchObject({ code: 'adapter_not_found' })
    await expect(rig.cache.prefetch('sha256:../../x')).rejects.toMatchObject({
      code: 'adapter_not_found',
    })
    await rig.deploy(late)
    await rig.generate(await rig.acquire(late), late, 2)
  })

  it('of a load reaches everyone who joined it, and the slot serves the next', async () => {
    const rig = await createRig({ slots: 1 })
    rig.engine.onLoad = async () => {
      throw Object.assign(new Error('no such luck'), { code: 'backend_failed' })
    }
    const results = await Promise.allSettled([rig.acquire(A), rig.acquire(A)])
    for (const result of results) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'adapter_load_failed' } })
    }
    expect(rig.cache.locate(digestOf('a'))).toBe('ram')
    rig.engine.onLoad = async () => {}
    await rig.generate(await rig.acquire(B), B, 2)
  })

  it('of a load wakes those who wait for a slot', async () => {
    const rig = await createRig({ slots: 1 })
    const gate = new Gate()
    rig.engine.onLoad = async (digest) => {
      await gate.pass()
      if (digest === digestOf('a')) throw new Error('no such luck')
    }
    const failing = rig.acquire(A)
    failing.catch(() => {})
    await until(() => rig.engine.loads.length === 1)
    const waiting = rig.acquire(B)
    await until(() => rig.cache.locate(digestOf('b')) === 'ram')
    gate.open()
    await expect(failing).rejects.toMatchObject({ code: 'adapter_load_failed' })
    await rig.generate(await waiting, B, 2)
  })

  it.each([
    ['for another base model', { base_digest: `sha256:${'e'.repeat(64)}` }],
    ['beyond the rank of this host', { rank: 65 }],
  ])('of a pack %s is adapter_invalid', async (name, changes) => {
    const rig = await createRig()
    const image = createImage(name)
    const manifest = { ...image.manifest, ...changes }
    await rig.deploy({ ...image, manifest })
    await expect(rig.acquire(image)).rejects.toMatchObject({ code: 'adapter_invalid' })
    expect(rig.engine.loads).toEqual([])
  })

  it('of the engine to take a pack is adapter_invalid', async () => {
    const rig = await createRig()
    rig.engine.onLoad = async () => {
      throw Object.assign(new Error('module 3/4'), { code: 'pack_mismatch' })
    }
    await expect(rig.acquire(A)).rejects.toMatchObject({ code: 'adapter_invalid' })
  })
})

describe('any order of requests, aborts and failures', () => {
  const request = fc.record({
    adapter: fc.nat(5),
    before: fc.constantFrom('nothing', 'hint', 'stage', 'wait'),
    turns: fc.integer({ min: 1, max: 4 }),
    delay: fc.nat(6),
    abortAfter: fc.option(fc.nat(8), { nil: null }),
  })

  it('serves each from its own adapter, and leaves no waiter and no pin behind', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(request, { minLength: 1, maxLength: 24 }),
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 0, max: 4 }),
        async (requests, slots, failOneIn) => {
          const rig = await CacheRig.create({ slots, ramBytesMax: 800 })
          const images = Array.from({ length: 6 }, (_, i) => createImage(`adapter ${i}`))
          await rig.deploy(...images)
          let loads = 0
          rig.engine.onLoad = async () => {
            loads += 1
            await nextTurn()
            if (failOneIn > 0 && loads % (failOneIn + 2) === 0) throw new Error('scripted')
          }
          const run = async (wanted: (typeof requests)[number]) => {
            const { adapter, before, turns, delay, abortAfter } = wanted
            const image = images[adapter] ?? A
            const stop = new AbortController()
            for (let turn = 0; turn < delay; turn += 1) await nextTurn()
            const abort = async (turns: number): Promise<void> => {
              for (let turn = 0; turn < turns; turn += 1) await nextTurn()
              stop.abort()
            }
            const { digest } = image.manifest
            const endWait = before === 'wait' ? rig.cache.wait(digest) : () => {}
            if (before === 'hint') void rig.cache.hint(digest).catch(() => {})
            if (before === 'stage') rig.cache.stage(digest)
            const aborting = abortAfter === null ? Promise.resolve() : abort(abortAfter)
            const lease = await rig.acquire(image, stop.signal).catch((error: unknown) => error)
            if (lease instanceof HostError) {
              const isScripted = failOneIn > 0 && lease.code === 'adapter_load_failed'
              const isAborted = abortAfter !== null && lease.code === 'request_aborted'
              if (!isScripted && !isAborted) throw lease
            } else if (lease instanceof Error) throw lease
            else {
              const held = lease as Awaited<ReturnType<CacheRig['acquire']>>
              await rig.generate(held, image, turns)
              held.release()
            }
            endWait()
            await aborting
          }
          try {
            await Promise.all(requests.map(run))
            rig.engine.onLoad = async () => {}
            // Every slot must be free: as many different adapters as slots, all at once.
            const leases = await Promise.all(
              images.slice(0, slots).map((image) => rig.acquire(image)),
            )
            expect(new Set(leases.map(({ slot }) => slot)).size).toBe(slots)
            expect(rig.ram.bytes).toBeLessThanOrEqual(800)
          } finally {
            rig.remove()
          }
        },
      ),
      { numRuns: 60 },
    )
  })
})
