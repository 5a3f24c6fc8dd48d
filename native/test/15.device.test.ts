import { describe, expect, it } from 'vitest'
import type { NativeEngineOptions } from '../index.ts'
import { createScratchDir, openGreedy, openTinyEngine, rowsOf } from './support/tiny-engine.ts'

const dir = createScratchDir()
const open = (changes: Partial<NativeEngineOptions>) => openTinyEngine(dir, changes)

describe('the device', () => {
  it.each(['auto', 'cpu'] as const)('%s is the CPU where there is no other', async (device) => {
    const engine = await open({ device })
    expect(engine.info.device).toMatch(/^cpu/)
    await engine.close()
  })

  it('cuda is refused where there is none', async () => {
    await expect(open({ device: 'cuda' })).rejects.toMatchObject({
      code: 'backend_failed',
      message: expect.stringMatching(/CUDA/),
    })
  })

  it.each(['device', 'graph'])('refuses an unknown %s', async (key) => {
    await expect(open({ [key]: 'abacus' })).rejects.toMatchObject({ code: 'invalid_argument' })
  })
})

describe.each(['auto', 'portable'] as const)('the memory plan of the %s graph', (graph) => {
  it('says what was taken, and foretells no less than a step needs', async () => {
    const engine = await open({ graph })
    const { memory } = engine.info
    const small = await open({ graph, rowsMax: 1, sequenceCount: 1, slotCount: 1 })
    for (const part of ['slots', 'kv', 'workspace'] as const) {
      expect(memory[part], part).toBeGreaterThan(small.info.memory[part])
    }
    expect(memory.weights).toBe(small.info.memory.weights)
    expect(memory.workspace).toBeGreaterThan(0)
    expect(memory.workspace).toBeLessThanOrEqual(memory.workspaceMax)
    // The largest step there is takes nothing more.
    openGreedy(engine, 0)
    const tokens = Array.from({ length: engine.limits.rowsMax }, (_, index) => index)
    await engine.step({ ...rowsOf(0, tokens), outputs: new Uint8Array(tokens.length).fill(1) })
    expect(engine.info.memory).toEqual(memory)
    await Promise.all([engine.close(), small.close()])
  })

  const tooMany: [string, Partial<NativeEngineOptions>][] = [
    ['sequences', { sequenceCount: 65_536, contextLength: 2 ** 20 }],
  ]
  // A device counts fewer slots than memory holds: 10.open.test.ts.
  if (graph === 'auto') tooMany.push(['slots', { slotCount: 65_536, rankMax: 4096 }])

  it.each(tooMany)('refuses more %s than memory holds, with the numbers', async (_, changes) => {
    await expect(open({ graph, ...changes })).rejects.toMatchObject({
      code: 'out_of_memory',
      message: expect.stringMatching(
        /left, the engine needs \d+ MiB: weights \d+ MiB, adapter slots \d+ MiB, KV cells \d+ MiB/,
      ),
    })
  })
})
