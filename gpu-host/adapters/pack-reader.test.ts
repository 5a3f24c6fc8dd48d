import { createHash } from 'node:crypto'
import { copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { writePack } from './pack-file.ts'
import { PackReader } from './pack-reader.ts'
import { createImage, digestOf } from './test/support/images.ts'

let directory = ''
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'nozzle-reader-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

/** Flips a bit of the payload's end and repairs its CRC-32 with the four bytes before it. */
function forge(path: string, payloadBytes: number): void {
  const file = readFileSync(path)
  const payload = file.subarray(file.length - payloadBytes)
  const wanted = crc32(payload)
  payload.writeUInt8(payload.readUInt8(payloadBytes - 5) ^ 1, payloadBytes - 5)
  const end = payloadBytes - 4
  // CRC-32 backwards: which four bytes lead from the state before them to the wanted one.
  let state = ~wanted >>> 0
  for (let i = 0; i < 4; i++) {
    const index = CRC_TABLE.findIndex((entry) => entry >>> 24 === state >>> 24)
    state = ((((state ^ (CRC_TABLE[index] ?? 0)) << 8) >>> 0) | index) >>> 0
  }
  const before = ~crc32(payload.subarray(0, end)) >>> 0
  payload.writeUInt32LE((state ^ before) >>> 0, end)
  expect(crc32(payload)).toBe(wanted)
  writeFileSync(path, file)
}

const CRC_TABLE = Array.from({ length: 256 }, (_, byte) => {
  let value = byte
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1
  return value >>> 0
})

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
      packs.map(({ path, digest, bytes }) => reader.read(path, digest, bytes, true)),
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
      reader.read(damaged, whole.digest, whole.bytes, true),
      reader.read(join(directory, 'gone'), whole.digest, whole.bytes, true),
      reader.read(whole.path, digestOf('another'), whole.bytes, true),
      reader.read(whole.path, whole.digest, whole.bytes, true),
    ])
    expect(results).toMatchObject([
      { status: 'rejected', reason: { code: 'pack_damaged', reason: 'the payload was altered' } },
      { status: 'rejected', reason: { code: 'ENOENT' } },
      { status: 'rejected', reason: { code: 'pack_damaged' } },
      { status: 'fulfilled' },
    ])
  })

  it('finds a proven pack damaged by its checksum', async () => {
    const reader = new PackReader(1)
    const pack = await packOf('pack')
    await reader.read(pack.path, pack.digest, pack.bytes, true)
    await expect(reader.read(pack.path, pack.digest, pack.bytes, false)).resolves.toBeDefined()
    const bytes = readFileSync(pack.path)
    bytes.writeUInt8(bytes.readUInt8(bytes.length - 9) ^ 4, bytes.length - 9)
    writeFileSync(pack.path, bytes)
    await expect(reader.read(pack.path, pack.digest, pack.bytes, false)).rejects.toMatchObject({
      code: 'pack_damaged',
    })
  })

  it('proves by the digest what is new, unknown or forgotten, whatever its checksum', async () => {
    const reader = new PackReader(1)
    const pack = await packOf('pack')
    await reader.read(pack.path, pack.digest, pack.bytes, false)
    forge(pack.path, LARGE_BYTES)
    const refused = { code: 'pack_damaged', reason: 'the payload was altered' }
    const read = (isNew: boolean) => reader.read(pack.path, pack.digest, pack.bytes, isNew)
    await expect(read(true)).rejects.toMatchObject(refused)
    reader.forget(pack.digest)
    await expect(read(false)).rejects.toMatchObject(refused)
    await expect(
      new PackReader(1).read(pack.path, pack.digest, pack.bytes, false),
    ).rejects.toMatchObject(refused)
  })
})
