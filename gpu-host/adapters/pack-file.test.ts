import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { PACK_PAYLOAD_ALIGN } from './adapter-pack.ts'
import { readPack, readPackManifest, writePack } from './pack-file.ts'
import { convert, vectorDirectory } from './test/support/vectors.ts'

let directory = ''
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'nozzle-pack-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

async function writeSample() {
  const image = await convert(vectorDirectory('patterns'))
  const path = join(directory, 'pack')
  await writePack(path, image)
  return { image, path, digest: image.manifest.digest }
}

describe('pack files', () => {
  it('read back exactly what was written, the payload at an aligned offset', async () => {
    const { image, path, digest } = await writeSample()
    const read = await readPack(path, digest)
    expect(read.manifest).toEqual(image.manifest)
    expect(Buffer.compare(read.payload, image.payload)).toBe(0)
    expect(await readPackManifest(path, digest)).toEqual(image.manifest)
    const offset = readFileSync(path).length - image.payload.length
    expect(offset % PACK_PAYLOAD_ALIGN).toBe(0)
  })

  it('are refused wherever one byte was altered or the end is missing', async () => {
    const { image, path, digest } = await writeSample()
    const bytes = readFileSync(path)
    const manifestEnd = 12 + bytes.readUInt32LE(8)
    const payloadStart = bytes.length - image.payload.length
    const places = [0, 7, 8, 11, 12, 40, manifestEnd - 3, payloadStart, bytes.length - 1]
    for (const place of places) {
      const altered = Buffer.from(bytes)
      altered[place] = (altered[place] ?? 0) ^ 1
      writeFileSync(path, altered)
      await expect(readPack(path, digest), `byte ${place}`).rejects.toMatchObject({
        code: 'pack_damaged',
      })
    }
    for (const length of [0, 5, 12, manifestEnd - 1, payloadStart, bytes.length - 1]) {
      writeFileSync(path, bytes)
      truncateSync(path, length)
      await expect(readPack(path, digest)).rejects.toMatchObject({ code: 'pack_damaged' })
      await expect(readPackManifest(path, digest)).rejects.toMatchObject({ code: 'pack_damaged' })
    }
  })

  it('are refused when a scale was altered, though the file is well-formed', async () => {
    const { path, digest } = await writeSample()
    const bytes = readFileSync(path)
    const at = bytes.indexOf('"scale":4')
    expect(at).toBeGreaterThan(0)
    bytes.write('"scale":8', at)
    writeFileSync(path, bytes)
    await expect(readPack(path, digest)).rejects.toThrow(/manifest was altered/)
  })

  it('are refused under the name of another adapter', async () => {
    const { path } = await writeSample()
    await expect(readPack(path, `sha256:${'c'.repeat(64)}`)).rejects.toThrow(/another adapter/)
  })
})
