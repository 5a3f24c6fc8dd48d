import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { NativeEngine } from '../index.ts'
import type { MetadataValue } from './support/gguf-writer.ts'
import {
  type RopeScaling,
  type SyntheticShape,
  TINY,
  TINY_QWEN2,
  TINY_QWEN3,
  writeSyntheticGguf,
} from './support/synthetic-gguf.ts'
import {
  createScratchDir,
  openGreedy,
  openTinyEngine,
  rowsOf,
  tinyOptions,
} from './support/tiny-engine.ts'

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
    writeSyntheticGguf(path, TINY, { 'general.architecture': { text: 'bloom' } })
    await refuses(
      { modelPath: path },
      'unsupported_architecture',
      "general.architecture is 'bloom'",
    )
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

  it('more slots than a device can count', () =>
    refuses({ slotCount: 65_536, rankMax: 4096, graph: 'portable' }, 'invalid_argument', '65536'))

  it.each([
    { sequenceCount: 65_536, contextLength: 2 ** 31 - 1 },
    { sequenceCount: 65_536, contextLength: 2 ** 31 - 1, graph: 'portable' as const },
    { kvCells: Number.MAX_SAFE_INTEGER },
    { kvCells: 2 ** 31 },
    { rowsMax: 65_536, contextLength: 2 ** 31 - 1, slotCount: 65_536, rankMax: 4096 },
  ])('sizes whose products pass 64 bits, or 32: %j', (sizes) => refuses(sizes, 'out_of_memory', ''))
})

/** What changes the meaning of a model and is not computed: the key is named, and what it holds. */
const UNSERVED: readonly [SyntheticShape, string, MetadataValue, string][] = [
  [TINY, 'expert_count', { u32: 8 }, 'llama.expert_count is 8: a mixture of experts'],
  [TINY_QWEN2, 'attention.sliding_window', { u32: 32 }, 'context length of at most 32'],
  [TINY, 'attn_logit_softcapping', { f32: 50 }, 'soft-capping of attention scores'],
  [TINY, 'final_logit_softcapping', { f32: 30 }, 'soft-capping of logits'],
  [TINY, 'attention.scale', { f32: 0.0625 }, 'llama.attention.scale is 0.0625'],
  [TINY, 'attention.causal', { bool: false }, 'llama.attention.causal is 0'],
  [TINY, 'logit_scale', { f32: 8 }, 'a scale of the logits'],
  [TINY, 'attention.key_length', { u32: 20 }, 'llama.attention.key_length is 20'],
  [TINY, 'attention.value_length', { u32: 32 }, 'llama.attention.value_length is 32'],
  [TINY_QWEN3, 'rope.dimension_count', { u32: 16 }, 'qwen3.rope.dimension_count is 16'],
  [TINY, 'rope.scaling.type', { text: 'dynamic' }, 'none, linear, yarn and longrope'],
  [TINY_QWEN2, 'rope.scaling.type', { text: 'longrope' }, 'none, linear and yarn are served'],
  [TINY_QWEN3, 'rope.scaling.yarn_beta_fast', { f32: 16 }, 'qwen3.rope.scaling.yarn_beta_fast'],
  [TINY, 'attention.head_count_kv', { i32s: [2, 1] }, 'llama.attention.head_count_kv is a list'],
]

describe('open refuses a model whose', () => {
  it.each(UNSERVED.map(([shape, key, value, text]) => ({ shape, key, value, text })))(
    '$key = $value is not served',
    async ({ shape, key, value, text }) => {
      const path = join(dir, 'unserved.gguf')
      writeSyntheticGguf(path, shape, { [`${shape.architecture}.${key}`]: value })
      await expect(NativeEngine.open(tinyOptions(path))).rejects.toMatchObject({
        code: 'unsupported_architecture',
        message: expect.stringContaining(text),
      })
    },
  )

  it.each<[string, MetadataValue, string]>([
    ['block_count', { u32: 0 }, 'llama.block_count is missing or 0'],
    ['embedding_length', { text: '64' }, 'llama.embedding_length is not a number'],
    ['feed_forward_length', { f32: 12.5 }, 'llama.feed_forward_length is 12.5'],
    ['attention.head_count_kv', { u32: 3 }, 'llama.attention.head_count_kv does not divide'],
    ['attention.layer_norm_rms_epsilon', { f32: 0 }, 'layer_norm_rms_epsilon is missing or 0'],
    ['block_count', { u32: 2 ** 31 - 1 }, 'tensor blk.2.attn_norm.weight is missing'],
    ['attention.key_length', { u32: 2 ** 31 - 16 }, 'more than a model can have'],
    ['attention.key_length', { u32: 2 ** 26 }, 'more than a model can have'],
    ['embedding_length', { u32: 2 ** 26 + 16 }, 'embedding_length is more than a model can have'],
    ['feed_forward_length', { u32: 2 ** 31 - 1 }, 'feed_forward_length is more than a model'],
    ['rope.freq_base', { f32: Number.NaN }, 'llama.rope.freq_base is not a finite number'],
    ['rope.scaling.factor', { f32: -2 }, 'llama.rope.scaling.factor is negative'],
    ['rope.scaling.type', { u32: 1 }, 'llama.rope.scaling.type is not a text'],
  ])('llama.%s makes no sense', async (key, value, text) => {
    const path = join(dir, 'senseless.gguf')
    writeSyntheticGguf(path, TINY, { [`llama.${key}`]: value })
    await expect(NativeEngine.open(tinyOptions(path))).rejects.toMatchObject({
      code: 'model_invalid',
      message: expect.stringContaining(text),
    })
  })

  it('tensors are more than it reads, since part of the model would be left out', async () => {
    const path = join(dir, 'more.gguf')
    writeSyntheticGguf(path, { ...TINY_QWEN2, ropeScaling: { type: 'divisors' } })
    await expect(NativeEngine.open(tinyOptions(path))).rejects.toMatchObject({
      code: 'unsupported_architecture',
      message: expect.stringContaining('tensor rope_freqs.weight'),
    })
  })

  it('weights are of a type that no test covers', async () => {
    const path = join(dir, 'type.gguf')
    writeSyntheticGguf(path, TINY)
    const bytes = readFileSync(path)
    const name = 'blk.0.ffn_up.weight'
    // Name, count of lengths, two lengths; then the type, of which I32 (26) has the size of F32.
    bytes.writeUInt32LE(26, bytes.indexOf(name) + name.length + 4 + 16)
    writeFileSync(path, bytes)
    await expect(NativeEngine.open(tinyOptions(path))).rejects.toMatchObject({
      code: 'unsupported_architecture',
      message: expect.stringContaining(`tensor ${name} is of type i32`),
    })
  })
})

describe('open takes', () => {
  it('a window of attention that holds the whole context', async () => {
    const path = join(dir, 'window.gguf')
    const { contextLength } = tinyOptions(path)
    writeSyntheticGguf(path, TINY_QWEN2, {
      'qwen2.attention.sliding_window': { u32: contextLength },
    })
    await (await NativeEngine.open(tinyOptions(path))).close()
  })

  it('a RoPE factor without a type as a linear one, as libllama does', async () => {
    const path = join(dir, 'factor.gguf')
    const drawWith = async (ropeScaling: RopeScaling, changes: Record<string, MetadataValue>) => {
      writeSyntheticGguf(path, { ...TINY, ropeScaling }, changes)
      const opened = await NativeEngine.open(tinyOptions(path))
      openGreedy(opened, 0, 1)
      const { sampled } = await opened.step(rowsOf(0, [50, 51, 52, 53, 54]))
      await opened.close()
      return sampled
    }
    const linear = await drawWith({ type: 'linear', factor: 4 }, {})
    expect(await drawWith({ type: 'none' }, {})).not.toEqual(linear)
    const factor = { 'llama.rope.scaling.factor': { f32: 4 } }
    expect(await drawWith({ type: 'none' }, factor)).toEqual(linear)
    const formerName = { 'llama.rope.scale_linear': { f32: 4 } }
    expect(await drawWith({ type: 'none' }, formerName)).toEqual(linear)
  })
})
