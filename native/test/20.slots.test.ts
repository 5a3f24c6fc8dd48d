import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { NativeEngine } from '../index.ts'
import { createSyntheticAdapter } from './support/synthetic-adapter.ts'
import { TINY } from './support/synthetic-gguf.ts'
import { createScratchDir, openGreedy, openTinyEngine, rowsOf } from './support/tiny-engine.ts'

const PROMPT = [40, 41, 42, 43]
const small = createSyntheticAdapter(TINY, { seed: 1, rank: 2, alpha: 4 })
const other = createSyntheticAdapter(TINY, { seed: 2, rank: 8, alpha: 8 })

const dir = createScratchDir()
let engine: NativeEngine

/** What the row after PROMPT would draw, with its log probability. */
async function draw(slot: number) {
  openGreedy(engine, 0, 0)
  const { sampled } = await engine.step(rowsOf(0, PROMPT, { slot }))
  engine.closeSequence(0)
  return sampled[0]
}

describe.each(['auto', 'portable'] as const)('slots of the %s graph', (graph) => {
  beforeAll(async () => {
    engine = await openTinyEngine(dir, { graph })
  })
  afterAll(() => engine.close())

  it('give each row the adapter that its slot holds', async () => {
    await engine.loadSlot(1, small)
    await engine.loadSlot(2, other)
    const [base, one, two] = [await draw(0), await draw(1), await draw(2)]
    expect(one?.logprob).not.toBe(base?.logprob)
    expect(two?.logprob).not.toBe(base?.logprob)
    expect(two?.logprob).not.toBe(one?.logprob)
    await engine.loadSlot(3, small)
    expect(await draw(3)).toEqual(one)
  })

  it('hold nothing of an earlier, larger adapter', async () => {
    await engine.loadSlot(1, small)
    const alone = await draw(1)
    await engine.loadSlot(1, other)
    await engine.loadSlot(1, small)
    expect(await draw(1)).toEqual(alone)
  })

  it('refuse rows once cleared', async () => {
    await engine.loadSlot(1, small)
    engine.clearSlot(1)
    await expect(draw(1)).rejects.toMatchObject({ code: 'slot_empty' })
    engine.closeSequence(0)
  })

  it('keep what they held when a pack does not fit the model', async () => {
    await engine.loadSlot(1, small)
    const before = await draw(1)
    const [first, ...rest] = small.manifest.modules
    if (!first) throw new Error('the adapter has modules')
    const broken = [
      { ...first, n_in: first.n_in + 1 },
      { ...first, n_out: 1 },
      { ...first, layer: TINY.layerCount },
      { ...first, layer: -1 },
      { ...first, rank: 9 },
      { ...first, rank: 0 },
      { ...first, a_offset: -64 },
      { ...first, a_offset: small.payload.length },
      { ...first, b_offset: 2 ** 52 },
      { ...first, a_offset: 2 },
    ]
    for (const module of broken) {
      const image = { manifest: { modules: [module, ...rest] }, payload: small.payload }
      const refused = engine.loadSlot(1, image)
      await expect(refused, JSON.stringify(module)).rejects.toMatchObject({ code: 'pack_mismatch' })
    }
    const short = { manifest: small.manifest, payload: small.payload.subarray(0, 64) }
    await expect(engine.loadSlot(1, short)).rejects.toMatchObject({ code: 'pack_mismatch' })
    expect(await draw(1)).toEqual(before)
  })

  it('refuse a load while a running step has rows of them, and take one into another slot', async () => {
    await Promise.all([engine.loadSlot(1, small), engine.loadSlot(2, small)])
    openGreedy(engine, 0)
    const step = engine.step(rowsOf(0, PROMPT, { slot: 1 }))
    await expect(engine.loadSlot(1, other)).rejects.toMatchObject({ code: 'slot_in_use' })
    expect(() => engine.clearSlot(1)).toThrow(expect.objectContaining({ code: 'slot_in_use' }))
    await engine.loadSlot(2, other)
    await step
    engine.closeSequence(0)
  })

  it.each([0, 4, -1, 1.5])('do not include number %s', async (slot) => {
    await expect(engine.loadSlot(slot, small)).rejects.toMatchObject({ code: 'invalid_argument' })
  })

  it('are loaded from a payload alike, pinned or not, and as long as it is held', async () => {
    await engine.loadSlot(1, small)
    const expected = await draw(1)
    engine.pin(small.payload)
    engine.pin(small.payload)
    await Promise.all([engine.loadSlot(2, small), engine.unpin(small.payload)])
    expect(await draw(2)).toEqual(expected)
    await engine.unpin(small.payload)
    // Held still when the engine closes.
    engine.pin(other.payload)
  })
})
