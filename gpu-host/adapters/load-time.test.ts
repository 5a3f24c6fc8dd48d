import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { VirtualClock } from '../test/support/virtual-clock.ts'
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

describe('the time of a load', () => {
  const LOAD_US = 3000
  async function createTimedRig(slots: number): Promise<CacheRig> {
    const clock = new VirtualClock()
    const rig = await createRig({ slots, clock })
    rig.engine.onLoad = () => clock.advance(LOAD_US / 1000)
    return rig
  }

  it('is carried once, however many waited for it, with the size of the pack by each', async () => {
    const rig = await createTimedRig(2)
    const leases = await Promise.all([rig.acquire(A), rig.acquire(A), rig.acquire(A)])
    expect(rig.engine.loads).toHaveLength(1)
    expect(leases.map(({ swapUs }) => swapUs).sort()).toEqual([0, 0, LOAD_US])
    expect((await rig.acquire(A)).swapUs).toBe(0)
    const packBytes = rig.store.packs.get(digestOf('a'))?.length
    expect(leases.map((lease) => lease.packBytes)).toEqual([packBytes, packBytes, packBytes])
    expect(rig.cache.unusedSwapUs).toBe(0)
  })

  it('passes to the next who waited when the one who began it has left', async () => {
    const rig = await createTimedRig(1)
    const stop = new AbortController()
    const load = rig.engine.onLoad
    rig.engine.onLoad = async (digest) => {
      await load(digest)
      stop.abort()
    }
    const left = rig.acquire(A, stop.signal)
    const stayed = rig.acquire(A)
    await expect(left).rejects.toMatchObject({ code: 'request_aborted' })
    expect((await stayed).swapUs).toBe(LOAD_US)
  })

  it('ahead of its request is carried by the first that uses the adapter', async () => {
    const rig = await createTimedRig(1)
    await rig.cache.prefetch(digestOf('a'))
    rig.cache.stage(digestOf('a'))
    await until(() => rig.cache.locate(digestOf('a')) === 'slot')
    expect((await rig.acquire(A)).swapUs).toBe(LOAD_US)
    expect((await rig.acquire(A)).swapUs).toBe(0)
  })

  it('is counted as unused when it failed, or its adapter left before anybody came', async () => {
    const rig = await createTimedRig(1)
    await rig.cache.prefetch(digestOf('a'))
    rig.cache.stage(digestOf('a'))
    await until(() => rig.cache.locate(digestOf('a')) === 'slot')
    const lease = await rig.acquire(B)
    expect(lease.swapUs).toBe(LOAD_US)
    expect(rig.cache.unusedSwapUs).toBe(LOAD_US)
    lease.release()
    const load = rig.engine.onLoad
    rig.engine.onLoad = async (digest) => {
      await load(digest)
      throw new Error('no such luck')
    }
    await expect(rig.acquire(C)).rejects.toMatchObject({ code: 'adapter_load_failed' })
    expect(rig.cache.unusedSwapUs).toBe(2 * LOAD_US)
  })
})
