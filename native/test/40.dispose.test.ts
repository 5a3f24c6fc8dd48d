import { describe, expect, it } from 'vitest'
import { createSyntheticAdapter } from './support/synthetic-adapter.ts'
import { TINY } from './support/synthetic-gguf.ts'
import { createScratchDir, openGreedy, openTinyEngine, rowsOf } from './support/tiny-engine.ts'

const dir = createScratchDir()
const adapter = createSyntheticAdapter(TINY, { seed: 1, rank: 2, alpha: 4 })

describe('close', () => {
  it('is idempotent, and everything after it says engine_closed', async () => {
    const engine = await openTinyEngine(dir)
    openGreedy(engine, 0)
    await engine.close()
    await engine.close()
    const closed = expect.objectContaining({ code: 'engine_closed' })
    expect(() => engine.tokenize('a', { addSpecial: false, parseSpecial: false })).toThrow(closed)
    expect(() => engine.tokenBytes(5)).toThrow(closed)
    expect(() => openGreedy(engine, 0)).toThrow(closed)
    expect(() => engine.closeSequence(0)).toThrow(closed)
    expect(() => engine.clearSlot(1)).toThrow(closed)
    await expect(engine.step(rowsOf(0, [50]))).rejects.toEqual(closed)
    await expect(engine.loadSlot(1, adapter)).rejects.toEqual(closed)
    expect(engine.info.baseModel).toBe('tiny')
  })

  it('lets a step and a load in flight finish', async () => {
    const engine = await openTinyEngine(dir)
    openGreedy(engine, 0)
    const work = [engine.step(rowsOf(0, [50, 51, 52])), engine.loadSlot(1, adapter)]
    await engine.close()
    const settled = await Promise.allSettled(work)
    expect(settled.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled'])
  })

  it('frees what it held: opening and closing again and again does not grow the process', async () => {
    const big = { slotCount: 64, rankMax: 512 }
    const cycle = async (): Promise<void> => (await openTinyEngine(dir, big)).close()
    for (let i = 0; i < 5; i++) await cycle()
    const before = process.memoryUsage.rss()
    for (let i = 0; i < 20; i++) await cycle()
    const bytesOfOne = 64 * 512 * 2 * 2 * 7 * 64
    expect(process.memoryUsage.rss() - before).toBeLessThan(10 * bytesOfOne)
  })

  it('leaves an engine beside it alone', async () => {
    const [one, two] = [await openTinyEngine(dir), await openTinyEngine(dir)]
    openGreedy(two, 0)
    await one.close()
    expect((await two.step(rowsOf(0, [50]))).sampled).toHaveLength(1)
    await two.close()
  })
})
