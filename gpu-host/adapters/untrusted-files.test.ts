/** Whatever the two files hold, the outcome is an adapter or `adapter_invalid`; nothing else. */
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import {
  FUZZ_SEED,
  FUZZ_TIMEOUT_MS,
  fuzzParameters,
  reportFuzz,
} from '../../native/test/support/fuzz.ts'
import { HostError } from '../errors.ts'
import { PackFileError, readPack, writePack } from './pack-file.ts'
import { parsePeftConfig } from './peft-config.ts'
import { parseStrictJson } from './strict-json.ts'
import { adapterPaths, convert, vectorDirectory } from './test/support/vectors.ts'

const directory = mkdtempSync(join(tmpdir(), 'nozzle-fuzz-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const good = adapterPaths(vectorDirectory('patterns'))
const weights = readFileSync(good.weightsPath)
const headerEnd = 8 + Number(weights.readBigUInt64LE())
const config: Record<string, unknown> = JSON.parse(readFileSync(good.configPath, 'utf8'))

/** Of a soak's time, for each of the three readers. */
const SHARE = 1 / 3

const isRefusal = (error: unknown): boolean =>
  error instanceof HostError && error.code === 'adapter_invalid' && error.param !== null

describe('untrusted adapter files', () => {
  it(
    'with any bytes changed or cut off in the weights',
    async () => {
      const { configPath, weightsPath } = adapterPaths(directory)
      copyFileSync(good.configPath, configPath)
      const inHeader = fc.record({ at: fc.nat(headerEnd - 1), byte: fc.nat(255) })
      const anywhere = fc.record({ at: fc.nat(weights.length - 1), byte: fc.nat(255) })
      const changes = fc.array(fc.oneof(inHeader, anywhere), { minLength: 1, maxLength: 4 })
      const length = fc.oneof(fc.constant(weights.length), fc.nat(weights.length))
      let refused = 0
      let executions = 0
      await fc.assert(
        fc.asyncProperty(changes, length, async (edits, bytes) => {
          executions += 1
          const changed = Buffer.from(weights.subarray(0, bytes))
          for (const { at, byte } of edits) if (at < bytes) changed[at] = byte
          writeFileSync(weightsPath, changed)
          const error: unknown = await convert(directory).then(
            () => null,
            (reason: unknown) => reason,
          )
          if (error !== null) refused += 1
          return error === null || isRefusal(error)
        }),
        fuzzParameters(400, SHARE),
      )
      expect(refused).toBeGreaterThan(executions / 2)
      reportFuzz('safetensors reader', { seed: FUZZ_SEED, executions, refused })
    },
    FUZZ_TIMEOUT_MS,
  )

  it(
    'with any bytes of a pack changed, cut off or added: the same adapter, or pack_damaged',
    async () => {
      const image = await convert(vectorDirectory('patterns'))
      const { digest } = image.manifest
      const sound = join(directory, 'sound.pack')
      await writePack(sound, image)
      const pack = readFileSync(sound)
      const manifestEnd = 12 + pack.readUInt32LE(8)
      const inManifest = fc.record({ at: fc.nat(manifestEnd - 1), byte: fc.nat(255) })
      const anywhere = fc.record({ at: fc.nat(pack.length - 1), byte: fc.nat(255) })
      const changes = fc.array(fc.oneof(inManifest, anywhere), { maxLength: 4 })
      const length = fc.oneof(fc.constant(pack.length), fc.nat(pack.length + 64))
      const path = join(directory, 'changed.pack')
      let executions = 0
      let refused = 0
      await fc.assert(
        fc.asyncProperty(changes, length, async (edits, bytes) => {
          executions += 1
          const changed = Buffer.alloc(bytes)
          pack.copy(changed)
          for (const { at, byte } of edits) if (at < bytes) changed[at] = byte
          writeFileSync(path, changed)
          try {
            const { manifest, payload } = await readPack(path, digest)
            expect(manifest).toEqual(image.manifest)
            expect(Buffer.from(payload).equals(Buffer.from(image.payload))).toBe(true)
          } catch (error) {
            if (!(error instanceof PackFileError)) throw error
            refused += 1
          }
        }),
        fuzzParameters(400, SHARE),
      )
      expect(refused).toBeGreaterThan(executions / 2)
      reportFuzz('pack reader', { seed: FUZZ_SEED, executions, refused })
    },
    FUZZ_TIMEOUT_MS,
  )

  it(
    'with any value in any field of the config',
    () => {
      const fields = fc.constantFrom(...Object.keys(config), '__proto__', 'constructor')
      let executions = 0
      fc.assert(
        fc.property(fields, fc.jsonValue(), (field, value) => {
          executions += 1
          // Written as text, so that a field named __proto__ is one.
          const entries = Object.entries(config).filter(([name]) => name !== field)
          const body = [...entries, [field, value] as const].map(
            ([name, found]) => `${JSON.stringify(name)}:${JSON.stringify(found)}`,
          )
          try {
            parsePeftConfig(Buffer.from(`{${body.join(',')}}`))
            return true
          } catch (error) {
            return isRefusal(error)
          }
        }),
        fuzzParameters(2000, SHARE),
      )
      reportFuzz('config reader', { seed: FUZZ_SEED, executions })
    },
    FUZZ_TIMEOUT_MS,
  )
})

describe('archives in disguise', () => {
  const end = (comment: number): Buffer => {
    const bytes = Buffer.alloc(22 + comment)
    bytes.write('PK\x05\x06', 'latin1')
    bytes.writeUInt16LE(comment, 20)
    return bytes
  }
  const outcome = async (change: (bytes: Buffer) => Buffer): Promise<unknown> => {
    const { configPath, weightsPath } = adapterPaths(directory)
    copyFileSync(good.configPath, configPath)
    writeFileSync(weightsPath, change(Buffer.from(weights)))
    return convert(directory).catch((error: unknown) => error)
  }

  it.each([0, 1, 500])(
    'are found in the last weights, before a comment of %i bytes',
    async (comment) => {
      const tail = end(comment)
      const error = await outcome((bytes) => {
        tail.copy(bytes, bytes.length - tail.length)
        return bytes
      })
      expect(isRefusal(error)).toBe(true)
      expect(String(error)).toContain('zip archive')
    },
  )

  it('are not seen in weights that only begin like one', async () => {
    const found = await outcome((bytes) => {
      end(9).copy(bytes, bytes.length - 22)
      return bytes
    })
    expect(String(found)).not.toContain('zip archive')
  })

  it.each([
    ['PK\x03\x04', 'pickle'],
    ['\x80\x02', 'pickle'],
    ['\x80\x05', 'pickle'],
    ['GGUF', 'at most'],
    ['\x1f\x8b', 'header'],
  ])('are refused by their first bytes: %j', async (magic, words) => {
    const error = await outcome(() =>
      Buffer.concat([Buffer.from(magic, 'latin1'), Buffer.alloc(4096, 1)]),
    )
    expect(isRefusal(error)).toBe(true)
    expect(String(error)).toContain(words)
  })
})

describe('parseStrictJson', () => {
  it('reads what JSON.parse reads', () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        const parsed = parseStrictJson(Buffer.from(text))
        // fast-check may itself write a key twice.
        if (!parsed.isValid) return parsed.key !== null || parsed.problem.includes('deep')
        expect(parsed.value).toEqual(JSON.parse(text))
        return true
      }),
    )
  })

  it.each([
    ['{"a":1,"a":2}', 'a'],
    ['{"a":1,"\\u0061":2}', 'a'],
    ['{"x":[{"y":{"b":1,"c":[{}],"b":2}}]}', 'b'],
    ['[{"k":1},{"k":1,"l":"k","k":2}]', 'k'],
    ['{"":1,"":2}', ''],
    ['{"q\\"":1,"q\\"":2}', 'q"'],
    ['{"__proto__":1,"__proto__":2}', '__proto__'],
    ['{"a":{"\\u005f_proto__":1}}', '__proto__'],
  ])('finds the key that may not stand in %s, or not twice', (text, key) => {
    expect(parseStrictJson(Buffer.from(text))).toMatchObject({ isValid: false, key })
  })

  it.each([32, 33, 1000, 100_000])('refuses more than 32 levels: %i', (depth) => {
    const text = '['.repeat(depth) + ']'.repeat(depth)
    expect(parseStrictJson(Buffer.from(text)).isValid).toBe(depth <= 32)
  })

  it.each(['{"a":"a","b":["a","a"],"c":{"a":1}}', '[{"a":1},{"a":1}]', '{"a":{"a":{"a":1}}}'])(
    'finds none in %s',
    (text) => {
      expect(parseStrictJson(Buffer.from(text))).toMatchObject({ isValid: true })
    },
  )
})
