import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { HostError } from '../errors.ts'
import { adapterReceipt } from '../protocol.ts'
import { PeftIntake } from './adapter-intake.ts'
import { readPack } from './pack-file.ts'
import { readParts, writeParts } from './test/support/adapter-files.ts'
import { MALFORMED_ADAPTERS } from './test/support/malformed-adapters.ts'
import { createTiers, type TestTiers } from './test/support/tiers.ts'
import { adapterPaths, convert, VECTOR_BASE, vectorDirectory } from './test/support/vectors.ts'

let tiers: TestTiers
beforeEach(async () => {
  tiers = await createTiers()
})
afterEach(() => tiers.remove())

const refusalOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => null,
    (error: unknown) => error,
  )

/** A copy, so that the intake may write beside the files. */
function copyOf(name: string): { configPath: string; weightsPath: string } {
  const directory = tiers.createDirectory()
  cpSync(vectorDirectory(name), directory, { recursive: true })
  return adapterPaths(directory)
}

describe('adapter intake', () => {
  it('stores a pack that reads back as the conversion of the files, and says what it holds', async () => {
    const receipt = adapterReceipt.parse(await tiers.intake.install(copyOf('patterns')))
    expect(receipt).toMatchObject({
      base_model: 'tiny',
      base_digest: VECTOR_BASE.baseDigest,
      rank: 6,
      alpha: 8,
      use_rslora: false,
      tensors: 28,
      existed: false,
    })
    const [stored] = tiers.filesIn('store')
    const bytes = readFileSync(stored ?? '')
    expect(receipt.pack_bytes).toBe(bytes.length)
    const image = await readPack(stored ?? '', receipt.digest)
    const expected = await convert(vectorDirectory('patterns'))
    expect(Buffer.compare(image.payload, expected.payload)).toBe(0)
    expect(image.manifest.modules).toEqual(expected.manifest.modules)
    expect(tiers.disk.has(receipt.digest)).toBe(true)
  })

  it('leaves only the uploaded files in the upload directory', async () => {
    const directory = tiers.createDirectory()
    cpSync(vectorDirectory('plain'), directory, { recursive: true })
    const before = readdirSync(directory)
    await tiers.intake.install(adapterPaths(directory))
    expect(readdirSync(directory)).toEqual(before)
  })

  it('takes the same bytes as the same adapter, and any other byte as another', async () => {
    const first = await tiers.intake.install(copyOf('plain'))
    const second = await tiers.intake.install(copyOf('plain'))
    expect(second).toEqual({ ...first, existed: true })
    expect(tiers.filesIn('store')).toHaveLength(1)
    const files = copyOf('plain')
    writeFileSync(files.configPath, `${readFileSync(files.configPath, 'utf8')} `)
    const third = await tiers.intake.install(files)
    expect(third.existed).toBe(false)
    expect(third.digest).not.toBe(first.digest)
  })

  it('names the same files differently for another base model', async () => {
    const first = await tiers.intake.install(copyOf('plain'))
    const other = await createTiers()
    try {
      const info = { ...other.engine.info, baseDigest: `sha256:${'d'.repeat(64)}` }
      const { store, disk } = other
      const intake = new PeftIntake({
        engine: { info, limits: other.engine.limits },
        store,
        disk,
        log: () => {},
      })
      expect((await intake.install(copyOf('plain'))).digest).not.toBe(first.digest)
    } finally {
      other.remove()
    }
  })

  it('says the name that the base has here, not the one it had when the pack was made', async () => {
    const first = await tiers.intake.install(copyOf('plain'))
    const { engine, store, disk } = tiers
    const renamed = { info: { ...engine.info, baseModel: 'renamed' }, limits: engine.limits }
    const intake = new PeftIntake({ engine: renamed, store, disk, log: () => {} })
    const second = await intake.install(copyOf('plain'))
    expect(second).toEqual({ ...first, base_model: 'renamed', existed: true })
  })

  it('makes a stored pack anew when it is damaged', async () => {
    const first = await tiers.intake.install(copyOf('plain'))
    const [stored] = tiers.filesIn('store')
    writeFileSync(stored ?? '', 'rubbish')
    const second = await tiers.intake.install(copyOf('plain'))
    expect(second).toEqual(first)
    await expect(readPack(stored ?? '', first.digest)).resolves.toBeDefined()
  })

  it('serves two uploads of the same adapter at once', async () => {
    const [a, b] = await Promise.all([
      tiers.intake.install(copyOf('plain')),
      tiers.intake.install(copyOf('plain')),
    ])
    expect(a.digest).toBe(b.digest)
    expect(tiers.filesIn('store')).toHaveLength(1)
    expect(tiers.filesIn('disk')).toHaveLength(1)
    expect(tiers.disk.bytes).toBe(a.pack_bytes)
  })

  it('stands by a deploy that the disk tier has no room for', async () => {
    const small = await createTiers({ diskBytesMax: 1000 })
    try {
      const receipt = await small.intake.install(copyOf('plain'))
      expect(receipt.existed).toBe(false)
      expect(small.filesIn('store')).toHaveLength(1)
      expect(small.filesIn('disk')).toEqual([])
      expect(small.logs).toEqual(['pack not kept on disk'])
    } finally {
      small.remove()
    }
  })

  it('takes a file apart and together again: the rig that the malformed ones are made with', async () => {
    const directory = tiers.createDirectory()
    writeParts(directory, readParts(vectorDirectory('plain')))
    await expect(tiers.intake.install(adapterPaths(directory))).resolves.toMatchObject({ rank: 4 })
  })
})

describe('refused adapters', () => {
  it.each(MALFORMED_ADAPTERS)('$name', async ({ expected, write }) => {
    const directory = tiers.createDirectory()
    write(directory, vectorDirectory('plain'))
    const error = await refusalOf(tiers.intake.install(adapterPaths(directory)))
    if (!(error instanceof HostError)) throw new Error('not refused', { cause: error })
    expect(error).toMatchObject({ code: 'adapter_invalid', status: 422 })
    expect(error.message).toMatch(expected)
    expect(error.message).toContain(error.param)
    expect(error.message.length).toBeLessThan(600)
    expect(tiers.filesIn('store')).toEqual([])
    expect(tiers.filesIn('disk')).toEqual([])
    expect(readdirSync(directory)).toHaveLength(2)
  })

  it('have names of their own', () => {
    const names = MALFORMED_ADAPTERS.map(({ name }) => name)
    expect(new Set(names).size).toBe(names.length)
    expect(names.length).toBeGreaterThanOrEqual(24)
  })

  it('beyond the rank of this host are told of the setting', async () => {
    const small = await createTiers({ limits: { rankMax: 3 } })
    try {
      const error = await refusalOf(small.intake.install(copyOf('plain')))
      expect(error).toMatchObject({ code: 'adapter_invalid', param: 'r' })
      expect(String(error)).toMatch(/NOZZLE_RANK_MAX/)
    } finally {
      small.remove()
    }
  })
})
