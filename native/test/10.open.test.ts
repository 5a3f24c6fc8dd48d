import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { NativeEngine } from '../index.ts'
import { TINY, writeSyntheticGguf } from './support/synthetic-gguf.ts'
import { createScratchDir, openTinyEngine, tinyOptions } from './support/tiny-engine.ts'

const dir = createScratchDir()
let engine: NativeEngine

beforeAll(async () => {
  engine = await openTinyEngine(dir)
})
afterAll(() => engine.close())

describe('open', () => {
  it('reports the shape of the model that it read', () => {
    expect(engine.info).toMatchObject({
      baseModel: 'tiny',
      architecture: 'llama',
      layerCount: TINY.layerCount,
      embeddingLength: TINY.embeddingLength,
      feedForwardLength: TINY.feedForwardLength,
      headCount: TINY.headCount,
      headCountKv: TINY.headCountKv,
      headLength: TINY.headLength,
      vocabularySize: TINY.vocabularySize,
      contextLengthTrained: TINY.contextLength,
      eosText: '<|im_end|>',
    })
    expect(engine.info.baseDigest).toMatch(/^sha256:[0-9a-f]{64}$/)
    expect(engine.info.chatTemplate).toContain('<|im_start|>')
  })

  it('gives text back from its tokens, whatever the bytes', () => {
    const text = 'the cat and 𝄞 — ünïcode\n\t\u0000'
    const tokens = engine.tokenize(text, { addSpecial: false, parseSpecial: false })
    const bytes = Buffer.concat([...tokens].map((token) => engine.tokenBytes(token)))
    expect(bytes.toString('utf8')).toBe(text)
  })

  it('reads special tokens only where asked to', () => {
    const one = engine.tokenize('<|im_end|>', { addSpecial: false, parseSpecial: true })
    expect(one).toHaveLength(1)
    expect(engine.isEndOfGeneration(one[0] ?? -1)).toBe(true)
    expect(engine.tokenBytes(one[0] ?? -1)).toHaveLength(0)
    const spelled = engine.tokenize('<|im_end|>', { addSpecial: false, parseSpecial: false })
    expect(spelled.length).toBeGreaterThan(1)
  })
})

describe('open refuses', () => {
  const refuses = async (changes: object, code: string, text: string): Promise<void> => {
    const options = { ...tinyOptions(join(dir, 'tiny.gguf')), ...changes }
    await expect(NativeEngine.open(options)).rejects.toMatchObject({
      name: 'EngineError',
      code,
      message: expect.stringContaining(text),
    })
  }

  it('a file that is not there', () =>
    refuses({ modelPath: join(dir, 'absent.gguf') }, 'model_not_found', 'absent.gguf'))

  it('a file that is no GGUF', async () => {
    const path = join(dir, 'text.gguf')
    writeFileSync(path, 'not a model')
    await refuses({ modelPath: path }, 'model_invalid', '')
  })

  it('a truncated GGUF', async () => {
    const path = join(dir, 'cut.gguf')
    const whole = readFileSync(join(dir, 'tiny.gguf'))
    writeFileSync(path, whole.subarray(0, whole.length - 5000))
    await refuses({ modelPath: path }, 'model_invalid', '')
  })

  it('an architecture that it does not compute', async () => {
    const path = join(dir, 'other.gguf')
    writeSyntheticGguf(path, TINY)
    const bytes = readFileSync(path)
    // Same length, so that every offset stays: the name stands once as the architecture's value.
    bytes.write('bloom', bytes.indexOf('llama', bytes.indexOf('general.architecture')))
    writeFileSync(path, bytes)
    await refuses({ modelPath: path }, 'unsupported_architecture', 'bloom')
  })

  it.each([
    ['slotCount', 0],
    ['rankMax', 1.5],
    ['sequenceCount', -1],
    ['contextLength', Number.NaN],
    ['rowsMax', 1e9],
    ['threads', -1],
  ])('%s = %s', (name, value) => refuses({ [name]: value }, 'invalid_argument', name))

  it('more slots than memory', () =>
    refuses({ slotCount: 65_536, rankMax: 4096 }, 'out_of_memory', ''))
})
