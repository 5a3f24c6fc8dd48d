/** A host's tiers over a store that speaks S3, in every way that it can fail. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../clock.ts'
import type { AdapterImage } from '../engine.ts'
import { AdapterCache } from './adapter-cache.ts'
import { DiskTier } from './disk-tier.ts'
import { openStore } from './open-store.ts'
import { writePack } from './pack-file.ts'
import { RamTier } from './ram-tier.ts'
import type { AdapterStore } from './store-tier.ts'
import { LoadingEngine } from './test/support/cache-rig.ts'
import { createImage } from './test/support/images.ts'
import { type Fault, S3Server, SLOW_DOWN } from './test/support/s3-server.ts'
import { VECTOR_BASE } from './test/support/vectors.ts'

const [A, B, C] = ['a', 'b', 'c'].map((name) => createImage(name, 200_000)) as [
  AdapterImage,
  AdapterImage,
  AdapterImage,
]
const { signal } = new AbortController()

let server: S3Server
let directory: string
let cache: AdapterCache
let logs: string[]
beforeEach(async () => {
  server = await S3Server.start()
  directory = mkdtempSync(join(tmpdir(), 'nozzle-s3-tiers-'))
  logs = []
  const engine = new LoadingEngine({ info: VECTOR_BASE, limits: { slotCount: 2 } })
  const log = (_: string, message: string, fields = {}): void =>
    void logs.push(`${message} ${JSON.stringify(fields)}`)
  const clock = systemClock
  const { store } = openStore({ kind: 's3', s3: server.settings }, { clock, log, fetch })
  const disk = await DiskTier.open({ directory: join(directory, 'disk'), bytesMax: 1e9, log })
  // RAM holds nothing for long, so that the tiers below are asked.
  const ram = new RamTier(1)
  cache = new AdapterCache({ engine, store, disk, ram, clock, log })
  for (const image of [A, B, C]) await deploy(store, image)
})
afterEach(async () => {
  await server.stop()
  rmSync(directory, { recursive: true, force: true })
})

async function deploy(store: AdapterStore, image: AdapterImage): Promise<void> {
  const path = join(directory, 'pack')
  await writePack(path, image)
  await store.put(image.manifest.digest, path)
  rmSync(path)
}

async function use(image: AdapterImage): Promise<string> {
  const lease = await cache.acquire(image.manifest.digest, signal)
  lease.release()
  return lease.source
}

function keyOf(image: AdapterImage): string {
  const hex = image.manifest.digest.slice('sha256:'.length)
  return [...server.objects.keys()].find((key) => key.includes(hex)) ?? ''
}

describe('what comes from a bucket', () => {
  it('is kept on disk, and survives a connection that breaks half-way', async () => {
    let breaks = 2
    server.fault = () => {
      breaks -= 1
      return breaks >= 0 ? { kind: 'reset', afterBytes: 70_000 } : null
    }
    expect(await use(A)).toBe('store')
    expect(readdirSync(join(directory, 'disk'))).toHaveLength(1)
  })

  it.each([
    ['cut off', (bytes: Buffer) => bytes.subarray(0, 150_000)],
    ['of other bytes', (bytes: Buffer) => Buffer.from(bytes).fill(1, 100_000, 100_001)],
    ['a web page', () => Buffer.from('<html>Please log in</html>')],
    ['empty', () => Buffer.alloc(0)],
    ['the pack of another', () => server.objects.get(keyOf(B))?.bytes ?? Buffer.alloc(0)],
  ])('is refused when it is %s, kept nowhere, and right once that is mended', async (_, change) => {
    const good = server.objects.get(keyOf(A))?.bytes ?? Buffer.alloc(0)
    server.put(keyOf(A), change(good))
    await expect(use(A)).rejects.toMatchObject({ code: 'adapter_load_failed' })
    expect(readdirSync(join(directory, 'disk'))).toEqual([])
    server.put(keyOf(A), good)
    expect(await use(A)).toBe('store')
  })
})

describe('an outage of the bucket', () => {
  const befall = async (fault: Fault | null): Promise<void> => {
    server.fault = () => fault
  }

  it.each([
    ['is down', () => server.stop(), () => server.listen()],
    ['asks to slow down', () => befall(SLOW_DOWN), () => befall(null)],
    ['breaks every connection', () => befall({ kind: 'reset', afterBytes: 0 }), () => befall(null)],
  ])(
    'hurts nothing below it while it %s, and cold ones are told at once',
    async (_, begin, end) => {
      await use(A)
      await begin()
      await expect(use(B)).rejects.toMatchObject({
        code: 'store_unavailable',
        status: 503,
        retryAfterMs: expect.any(Number),
      })
      const before = server.requests.length
      const refusals = await Promise.allSettled(Array.from({ length: 20 }, () => use(C)))
      for (const refusal of refusals) {
        expect(refusal).toMatchObject({ reason: { code: 'store_unavailable' } })
      }
      expect(server.requests.length).toBe(before)
      expect(await use(A)).toBe('slot')
      await end()
      await expect.poll(() => use(B).catch(() => null), { timeout: 10_000 }).toBe('store')
      expect(await use(C)).toBe('store')
      expect(logs.join('\n')).toContain('the adapter store answers again')
      expect(logs.join('\n')).not.toContain(server.settings.secretAccessKey)
    },
  )
})
