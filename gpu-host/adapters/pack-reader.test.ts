import { createHash } from 'node:crypto'
import { copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { writePack } from './pack-file.ts'
import { PackReader } from './pack-reader.ts'
import { createImage, digestOf } from './test/support/images.ts'

let directory = ''
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'nozzle-reader-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

/** Not a multiple of the chunk, and beyond what is read on the loop's own thread. */
const LARGE_BYTES = 3 * 1024 * 1024 + 192

async function packOf(name: string, payloadBytes = LARGE_BYTES) {
  const image = createImage(name, payloadBytes)
  for (let i = 0; i < payloadBytes; i += 997) image.payload[i] = i % 251
  const payload_sha256 = createHash('sha256').update(image.payload).digest('hex')
  const path = join(directory, name)
  await writePack(path, { ...image, manifest: { ...image.manifest, payload_sha256 } })
  return { path, digest: digestOf(name), payload: image.payload, bytes: statSync(path).size }
}

describe('PackReader', () => {
  it('reads packs of any size to the last byte, more at once than it has threads', async () => {
    const reader = new PackReader(2)
    const sizes = [256, LARGE_BYTES, 1024 * 1024, LARGE_BYTES, 2 * 1024 * 1024, 512 * 1024]
    const packs = await Promise.all(sizes.map((size, i) => packOf(`pack-${i}`, size)))
    const images = await Promise.all(
      packs.map(({ path, digest, bytes }) => reader.read(path, digest, bytes)),
    )
    for (const [i, { payload, digest }] of packs.entries()) {
      expect(images[i]?.manifest.digest).toBe(digest)
      expect(Buffer.compare(images[i]?.payload ?? new Uint8Array(), payload)).toBe(0)
    }
  })

  it('tells damage and absence apart, and serves the next read after either', async () => {
    const reader = new PackReader(1)
    const whole = await packOf('whole')
    const damaged = join(directory, 'damaged')
    copyFileSync(whole.path, damaged)
    const bytes = readFileSync(damaged)
    const last = bytes.length - 1
    bytes[last] = (bytes[last] ?? 0) ^ 1
    writeFileSync(damaged, bytes)
    const results = await Promise.allSettled([
      reader.read(damaged, whole.digest, whole.bytes),
      reader.read(join(directory, 'gone'), whole.digest, whole.bytes),
      reader.read(whole.path, digestOf('another'), whole.bytes),
      reader.read(whole.path, whole.digest, whole.bytes),
    ])
    expect(results).toMatchObject([
      { status: 'rejected', reason: { code: 'pack_damaged', reason: 'the payload was altered' } },
      { status: 'rejected', reason: { code: 'ENOENT' } },
      { status: 'rejected', reason: { code: 'pack_damaged' } },
      { status: 'fulfilled' },
    ])
  })
})
