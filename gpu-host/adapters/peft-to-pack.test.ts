import { describe, expect, it } from 'vitest'
import { PACK_BLOCK_ALIGN } from './adapter-pack.ts'
import {
  applyModule,
  convert,
  readExpected,
  VECTOR_ADAPTERS,
  VECTOR_BASE,
  vectorDirectory,
} from './test/support/vectors.ts'

/** Relative error of one value rounded to F16; a product of A and B carries two. */
const HALF_EPSILON = 2 ** -11
const TOLERANCE = 2.01 * HALF_EPSILON

describe('a pack made from PEFT files', () => {
  it.each(VECTOR_ADAPTERS)('adds to each module what peft adds: %s', async (name) => {
    const expected = readExpected(name)
    const image = await convert(vectorDirectory(name))
    expect(image.manifest.modules.map(({ layer, target }) => ({ layer, target }))).toEqual(
      expected.map(({ layer, target }) => ({ layer, target })),
    )
    for (const [index, { probe, delta_gguf, layer, target }] of expected.entries()) {
      const { y, magnitude } = applyModule(image, index, probe)
      expect(y).toHaveLength(delta_gguf.length)
      for (const [row, value] of delta_gguf.entries()) {
        const error = Math.abs((y[row] ?? Number.NaN) - value)
        const where = `${name} ${layer}/${target} row ${row}`
        expect(error, where).toBeLessThanOrEqual(TOLERANCE * (magnitude[row] ?? 0))
      }
    }
  })

  it.each(['qwen2', 'qwen3'])(
    'leaves the rows of q and k where they are: %s',
    async (architecture) => {
      const image = await convert(vectorDirectory('plain'), { ...VECTOR_BASE, architecture })
      for (const [index, { probe, delta }] of readExpected('plain').entries()) {
        const { y, magnitude } = applyModule(image, index, probe)
        for (const [row, value] of delta.entries()) {
          const error = Math.abs((y[row] ?? Number.NaN) - value)
          expect(error).toBeLessThanOrEqual(TOLERANCE * (magnitude[row] ?? 0))
        }
      }
    },
  )

  it('says after each module how far it is, up to the whole', async () => {
    const seen: number[][] = []
    const image = await convert(vectorDirectory('plain'), VECTOR_BASE, (...bytes) => {
      seen.push(bytes)
    })
    const { modules, payload_bytes: total } = image.manifest
    const ends = [...modules.slice(1).map(({ a_offset }) => a_offset), total]
    expect(seen).toEqual(ends.map((end) => [end, total]))
  })

  it('folds ranks, scales and patterns as peft does', async () => {
    const plain = await convert(vectorDirectory('plain'))
    expect(plain.manifest).toMatchObject({ rank: 4, alpha: 8, use_rslora: false })
    expect(new Set(plain.manifest.modules.map(({ scale }) => scale))).toEqual(new Set([2]))
    const rslora = await convert(vectorDirectory('rslora'))
    expect(new Set(rslora.manifest.modules.map(({ scale }) => scale))).toEqual(new Set([3]))
    const patterns = await convert(vectorDirectory('patterns'))
    const of = (layer: number, target: string) =>
      patterns.manifest.modules.find((module) => module.layer === layer && module.target === target)
    expect(patterns.manifest.rank).toBe(6)
    expect(of(0, 'attn_q')).toMatchObject({ rank: 2, scale: 4 })
    expect(of(1, 'attn_v')).toMatchObject({ rank: 5, scale: 2 })
    expect(of(1, 'attn_k')).toMatchObject({ rank: 4, scale: 8 })
    expect(of(0, 'ffn_up')).toMatchObject({ rank: 3, scale: 8 / 3 })
    expect(of(0, 'ffn_down')).toMatchObject({ rank: 4, scale: 2 })
    expect(of(1, 'ffn_down')).toMatchObject({ rank: 6, scale: 8 / 6 })
  })

  it('aligns every block, and none overlaps another', async () => {
    const { manifest, payload } = await convert(vectorDirectory('patterns'))
    const blocks = manifest.modules.flatMap(({ a_offset, b_offset, rank, n_in, n_out }) => [
      { begin: a_offset, end: a_offset + rank * n_in * 2 },
      { begin: b_offset, end: b_offset + rank * n_out * 2 },
    ])
    let end = 0
    for (const block of blocks) {
      expect(block.begin % PACK_BLOCK_ALIGN).toBe(0)
      expect(block.begin).toBeGreaterThanOrEqual(end)
      end = block.end
    }
    expect(payload).toHaveLength(manifest.payload_bytes)
    expect(end).toBeLessThanOrEqual(payload.length)
  })
})
