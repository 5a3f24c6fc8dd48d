import { afterEach, describe, expect, it } from 'vitest'
import { VirtualClock } from '../test/support/virtual-clock.ts'
import { CacheRig, type CacheRigOptions } from './test/support/cache-rig.ts'
import { createImage, digestOf } from './test/support/images.ts'

const [A, B] = [createImage('a'), createImage('b')] as const

const rigs: CacheRig[] = []
afterEach(() => {
  for (const rig of rigs.splice(0)) rig.remove()
})
async function createRig(options: CacheRigOptions): Promise<CacheRig> {
  const rig = await CacheRig.create({ ...options, isStoreGuarded: true })
  rigs.push(rig)
  await rig.deploy(A, B)
  return rig
}

describe('a store that hangs', () => {
  const hang = (): Promise<void> => new Promise(() => {})

  it('is given up after a while, then refused at once, then asked again', async () => {
    const clock = new VirtualClock()
    const rig = await createRig({ clock })
    rig.store.onGet = hang
    const result = rig.acquire(A).catch((error: unknown) => error)
    await expect.poll(() => rig.store.gets).toHaveLength(1)
    await clock.advance(15_000)
    expect(await result).toMatchObject({ code: 'store_unavailable', status: 503 })
    await expect(rig.acquire(B)).rejects.toMatchObject({ code: 'store_unavailable' })
    expect(rig.store.gets).toHaveLength(1)
    rig.store.onGet = async () => {}
    await clock.advance(1000)
    await rig.generate(await rig.acquire(A), A, 2)
  })

  it('holds up nothing that is on disk, in RAM or in a slot', async () => {
    // Time stands still: nobody gives the store up.
    const clock = new VirtualClock()
    const rig = await createRig({ clock, slots: 1, ramBytesMax: 300 })
    for (const image of [A, B]) (await rig.acquire(image)).release()
    rig.store.onGet = hang
    const cold = Array.from({ length: 9 }, (_, i) => rig.cache.prefetch(digestOf(`cold${i}`)))
    for (const work of cold) work.catch(() => {})
    await expect.poll(() => rig.store.gets).toHaveLength(2 + 4)
    for (const [image, tier] of [
      [B, 'slot'],
      [A, 'disk'],
      [B, 'disk'],
    ] as const) {
      expect(rig.cache.locate(image.manifest.digest)).toBe(tier)
      const lease = await rig.acquire(image)
      await rig.generate(lease, image, 2)
      lease.release()
    }
  })
})
