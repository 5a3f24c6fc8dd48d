import {
  copyFileSync,
  createReadStream,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { digestHex } from './adapter-digest.ts'
import { DiskTier } from './disk-tier.ts'
import { writePack } from './pack-file.ts'
import { DirectoryStore } from './store-tier.ts'
import { createImage, digestOf } from './test/support/images.ts'

let directory = ''
let sources = 0
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'nozzle-disk-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

const root = (): string => join(directory, 'disk')
const openTier = (bytesMax: number): Promise<DiskTier> =>
  DiskTier.open({ directory: root(), bytesMax, log: () => {} })
const pathOf = (name: string): string => join(root(), `${digestHex(digestOf(name))}.nzpack`)
const bytesOnDisk = (): number =>
  readdirSync(root()).reduce((sum, name) => sum + statSync(join(root(), name)).size, 0)

async function packOf(name: string): Promise<string> {
  const path = join(directory, `source-${sources++}`)
  await writePack(path, createImage(name))
  return path
}

async function put(tier: DiskTier, name: string): Promise<void> {
  await tier.write(digestOf(name), createReadStream(await packOf(name)))
}

/** Every sample pack is of this size. */
const packSize = async (): Promise<number> => statSync(await packOf('any')).size

describe('disk tier', () => {
  it('gives back what it was given, and nothing else', async () => {
    const tier = await openTier(1e6)
    await put(tier, 'a')
    expect(await tier.read(digestOf('a'))).toMatchObject({
      manifest: createImage('a').manifest,
    })
    expect(await tier.read(digestOf('b'))).toBeNull()
  })

  it('counts a pack once, however often it is written', async () => {
    const tier = await openTier(1e6)
    await put(tier, 'a')
    await put(tier, 'a')
    expect(tier.bytes).toBe(await packSize())
    expect(bytesOnDisk()).toBe(tier.bytes)
  })

  it('stays within its bound, least recently used first out', async () => {
    const size = await packSize()
    const tier = await openTier(2 * size)
    await put(tier, 'a')
    await put(tier, 'b')
    await tier.read(digestOf('a'))
    await put(tier, 'c')
    expect([...tier.digests()]).toEqual([digestOf('a'), digestOf('c')])
    expect(tier.bytes).toBe(2 * size)
    expect(bytesOnDisk()).toBe(2 * size)
  })

  it('keeps to its bound and its books when writes meet', async () => {
    const size = await packSize()
    const tier = await openTier(3 * size)
    const names = Array.from({ length: 12 }, (_, i) => `n${i % 8}`)
    await Promise.all(names.map((name) => put(tier, name).catch(() => {})))
    expect(tier.bytes).toBeLessThanOrEqual(3 * size)
    expect(tier.bytes).toBe([...tier.digests()].length * size)
    for (const digest of [...tier.digests()]) await tier.read(digest)
    expect(bytesOnDisk()).toBe(tier.bytes)
  })

  it('finds its packs again after a restart, oldest use first, and sweeps half-written ones', async () => {
    const size = await packSize()
    const first = await openTier(1e6)
    for (const name of ['a', 'b', 'c']) await put(first, name)
    utimesSync(pathOf('b'), 1000, 1000)
    utimesSync(pathOf('c'), 2000, 2000)
    utimesSync(pathOf('a'), 3000, 3000)
    writeFileSync(join(root(), '.tmp-left-over'), 'half')
    writeFileSync(join(root(), 'notes.txt'), 'not ours')
    const second = await openTier(2 * size)
    expect([...second.digests()]).toEqual([digestOf('c'), digestOf('a')])
    expect(readdirSync(root()).sort()).toEqual(
      [
        `${digestHex(digestOf('a'))}.nzpack`,
        `${digestHex(digestOf('c'))}.nzpack`,
        'notes.txt',
      ].sort(),
    )
  })

  it('drops a pack that was damaged or swapped, and says it has none', async () => {
    const tier = await openTier(1e6)
    await put(tier, 'a')
    await put(tier, 'b')
    writeFileSync(pathOf('a'), 'rubbish')
    expect(await tier.read(digestOf('a'))).toBeNull()
    expect(tier.has(digestOf('a'))).toBe(false)
    await put(tier, 'a')
    copyFileSync(pathOf('a'), pathOf('b'))
    expect(await tier.read(digestOf('b'))).toBeNull()
    rmSync(pathOf('a'))
    expect(await tier.read(digestOf('a'))).toBeNull()
    expect(tier.bytes).toBe(0)
  })

  it('lets nothing in that is not the pack it was said to be', async () => {
    const tier = await openTier(1e6)
    const other = createReadStream(await packOf('b'))
    await expect(tier.write(digestOf('a'), other)).rejects.toMatchObject({ code: 'pack_damaged' })
    async function* cut(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('NZPACK01')
      throw new Error('the store hung up')
    }
    await expect(tier.write(digestOf('a'), cut())).rejects.toThrow('the store hung up')
    expect(tier.bytes).toBe(0)
    expect(readdirSync(root())).toEqual([])
  })

  it('refuses a pack that is larger than the tier, and says which setting to raise', async () => {
    const tier = await openTier(1000)
    await expect(put(tier, 'a')).rejects.toThrow(/NOZZLE_DISK_TIER_BYTES_MAX/)
    expect(readdirSync(root())).toEqual([])
  })
})

describe('directory store', () => {
  it('has a pack for ever once it was put, whole', async () => {
    const store = new DirectoryStore(join(directory, 'store'))
    const signal = new AbortController().signal
    expect(await store.get(digestOf('a'), signal)).toBeNull()
    const path = await packOf('a')
    await Promise.all([store.put(digestOf('a'), path), store.put(digestOf('a'), path)])
    rmSync(path)
    const tier = await openTier(1e6)
    const bytes = await new DirectoryStore(join(directory, 'store')).get(digestOf('a'), signal)
    if (bytes === null) throw new Error('not stored')
    expect((await tier.write(digestOf('a'), bytes)).manifest.digest).toBe(digestOf('a'))
    const files = readdirSync(join(directory, 'store'), { recursive: true, withFileTypes: true })
    expect(files.filter((entry) => entry.isFile())).toHaveLength(1)
  })

  it.each([
    '../../../etc/passwd',
    `sha256:../${'a'.repeat(61)}`,
    `sha256:${'A'.repeat(64)}`,
    `sha256:${'a'.repeat(64)}/..`,
    'sha256:',
    '',
  ])('never turns %j into a path', async (digest) => {
    const store = new DirectoryStore(join(directory, 'store'))
    expect(await store.get(digest, new AbortController().signal)).toBeNull()
    await expect(store.put(digest, await packOf('a'))).rejects.toThrow('not a digest')
  })
})
