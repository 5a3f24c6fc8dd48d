import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { NativeEngine, NativeSamplingOptions } from '../index.ts'
import { GREEDY } from './support/requests.ts'
import {
  createScratchDir,
  joinRows,
  openGreedy,
  openTinyEngine,
  rowsOf,
} from './support/tiny-engine.ts'

const PROMPT = [50, 51, 52]
const dir = createScratchDir()
let engine: NativeEngine

beforeAll(async () => {
  engine = await openTinyEngine(dir)
})
afterAll(() => engine.close())
afterEach(() => {
  for (let sequence = 0; sequence < engine.limits.sequenceCount; sequence++) {
    engine.closeSequence(sequence)
  }
})

/** `count` tokens drawn after PROMPT under the given sampling. */
async function generate(changes: Partial<NativeSamplingOptions>, count = 12): Promise<number[]> {
  engine.openSequence(0, {
    sampling: { ...GREEDY, ...changes },
    topLogprobs: -1,
    promptTokens: Int32Array.from(PROMPT),
  })
  const drawn: number[] = []
  let rows = rowsOf(0, PROMPT)
  while (drawn.length < count) {
    const [sampled] = (await engine.step(rows)).sampled
    if (!sampled || sampled.isNonFinite) throw new Error('nothing was drawn')
    drawn.push(sampled.token)
    rows = rowsOf(0, [sampled.token], { position: PROMPT.length + drawn.length - 1 })
  }
  return drawn
}

describe('step', () => {
  it('samples exactly the rows that ask for it, in row order', async () => {
    openGreedy(engine, 0)
    openGreedy(engine, 2)
    const batch = {
      tokens: Int32Array.of(50, 51, 60, 61),
      positions: Int32Array.of(0, 1, 0, 1),
      sequences: Int32Array.of(2, 2, 0, 0),
      slots: new Int32Array(4),
      outputs: Uint8Array.of(0, 1, 1, 0),
    }
    const { sampled, engineUs } = await engine.step(batch)
    expect(sampled.map(({ sequence }) => sequence)).toEqual([2, 0])
    expect(engineUs).toBeGreaterThan(0)
  })

  it('gives log probabilities that sum to one over the vocabulary', async () => {
    openGreedy(engine, 0, engine.info.vocabularySize)
    const [sampled] = (await engine.step(rowsOf(0, PROMPT))).sampled
    const top = sampled?.top ?? []
    expect(top).toHaveLength(engine.info.vocabularySize)
    expect(top.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0)).toBeCloseTo(1, 5)
    expect(top[0]).toEqual({ token: sampled?.token, logprob: sampled?.logprob })
  })

  it('takes a prompt in chunks as it takes it whole', async () => {
    openGreedy(engine, 0, 5)
    openGreedy(engine, 1, 5)
    const [whole] = (await engine.step(rowsOf(0, PROMPT))).sampled
    await engine.step({ ...rowsOf(1, PROMPT.slice(0, 2)), outputs: new Uint8Array(2) })
    const [chunked] = (await engine.step(rowsOf(1, PROMPT.slice(2), { position: 2 }))).sampled
    expect({ ...chunked, sequence: 0 }).toEqual(whole)
  })

  it('samples any row of a long prompt as if it ended there', async () => {
    // Of the last layer only rows with outputs, and what stands beside them, are computed whole.
    const long = await openTinyEngine(dir, { contextLength: 208, rowsMax: 208, threads: 2 })
    try {
      const prompt = Array.from({ length: 200 }, (_, index) => 40 + ((index * 37) % 200))
      for (const last of [62, 63, 64, 65, 66, 130, 191, 192, 199]) {
        for (const sequence of [0, 1, 2]) openGreedy(long, sequence, 5)
        // A row of another sequence ahead: groups of rows and blocks of rows do not line up.
        const whole = joinRows(rowsOf(2, [50]), rowsOf(0, prompt))
        whole.outputs.fill(0)
        whole.outputs[last + 1] = 1
        const [among] = (await long.step(whole)).sampled
        for (let at = 0; at < last; at += 1) {
          const step = rowsOf(1, prompt.slice(at, at + 1), { position: at })
          await long.step({ ...step, outputs: new Uint8Array(1) })
        }
        const [alone] = (await long.step(rowsOf(1, [prompt[last] ?? 0], { position: last })))
          .sampled
        expect({ ...among, sequence: 1 }).toEqual(alone)
        for (const sequence of [0, 1, 2]) long.closeSequence(sequence)
      }
    } finally {
      await long.close()
    }
  })

  it('forgets a sequence when it is opened anew', async () => {
    const first = await generate({}, 4)
    await generate({ temperature: 2, seed: 3 }, 20)
    expect(await generate({}, 4)).toEqual(first)
  })

  it('does not let JavaScript wait', async () => {
    openGreedy(engine, 0)
    const step = engine.step(rowsOf(0, PROMPT))
    let hasResolved = false
    void step.then(() => {
      hasResolved = true
    })
    await new Promise((resolve) => setImmediate(resolve).unref())
    // The loop turned while the step was queued or running; the result arrives as a later event.
    expect(typeof hasResolved).toBe('boolean')
    await step
    expect(hasResolved).toBe(true)
  })
})

describe('sampling', () => {
  it('repeats itself under a seed, and not under another', async () => {
    const hot = { temperature: 1.5 }
    const one = await generate({ ...hot, seed: 11 })
    expect(await generate({ ...hot, seed: 11 })).toEqual(one)
    expect(await generate({ ...hot, seed: 12 })).not.toEqual(one)
  })

  it('repeats itself under the seed that libllama takes for none', async () => {
    const hot = { temperature: 1.5, seed: 0xffff_ffff }
    expect(await generate(hot)).toEqual(await generate(hot))
  })

  it('top_k 1 is greedy', async () => {
    expect(await generate({ temperature: 1, top_k: 1, seed: 5 })).toEqual(await generate({}))
  })

  it('never draws what a bias forbids', async () => {
    const [favourite] = await generate({}, 1)
    const without = await generate({ logit_bias: { [String(favourite)]: -100 } }, 1)
    expect(without[0]).not.toBe(favourite)
    const only = await generate({ logit_bias: { 77: 100 } }, 3)
    expect(only).toEqual([77, 77, 77])
  })

  it('a frequency penalty ends a repetition', async () => {
    const repeated = await generate({ logit_bias: { 77: 5 }, frequency_penalty: 2 }, 20)
    expect(new Set(repeated).size).toBeGreaterThan(2)
  })

  it('keeps to a grammar', async () => {
    const grammar = 'root ::= ("a" | "b") ("a" | "b") ("a" | "b")'
    const tokens = await generate({ temperature: 1, seed: 1, grammar }, 3)
    const text = Buffer.concat(tokens.map((token) => engine.tokenBytes(token))).toString()
    expect(text).toMatch(/^[ab]{1,3}$/)
  })
})

describe('step refuses, changing nothing,', () => {
  const refused = [
    ['a gap', { positions: Int32Array.of(0, 2, 3) }, 'position 2, expected 1'],
    ['a start past zero', { positions: Int32Array.of(1, 2, 3) }, 'expected 0'],
    ['a sequence that is not open', { sequences: Int32Array.of(3, 3, 3) }, 'not open'],
    ['a sequence that does not exist', { sequences: Int32Array.of(9, 9, 9) }, 'sequence'],
    ['an unknown token', { tokens: Int32Array.of(1, 2, 1 << 30) }, 'vocabulary'],
    ['a negative token', { tokens: Int32Array.of(1, -1, 2) }, 'vocabulary'],
    ['an unknown slot', { slots: Int32Array.of(99, 99, 99) }, 'slot 99'],
    ['two slots in a sequence', { slots: Int32Array.of(0, 0, 1) }, 'slot'],
    ['arrays of different lengths', { slots: new Int32Array(2) }, 'slots has 2 rows'],
    ['arrays of another type', { outputs: [1, 1, 1] as unknown as Uint8Array }, 'outputs'],
  ] as const

  it.each(refused)('%s', async (_, change, text) => {
    openGreedy(engine, 0, 0)
    await expect(engine.step({ ...rowsOf(0, PROMPT), ...change })).rejects.toMatchObject({
      code: expect.stringMatching(/^(invalid_argument|slot_empty)$/),
      message: expect.stringContaining(text),
    })
    await expect(engine.step(rowsOf(0, PROMPT))).resolves.toBeDefined()
  })

  it('no rows, and more rows than it was opened for', async () => {
    openGreedy(engine, 0)
    await expect(engine.step(rowsOf(0, []))).rejects.toMatchObject({ code: 'invalid_argument' })
    const many = rowsOf(0, new Array(engine.limits.rowsMax + 1).fill(50))
    await expect(engine.step(many)).rejects.toMatchObject({ code: 'invalid_argument' })
  })

  it('positions past the context', async () => {
    openGreedy(engine, 0)
    const { contextLength, rowsMax } = engine.limits
    await engine.step(rowsOf(0, new Array(rowsMax).fill(50)))
    const rest = new Array(contextLength - rowsMax).fill(50)
    await engine.step(rowsOf(0, rest, { position: rowsMax }))
    await expect(engine.step(rowsOf(0, [50], { position: contextLength }))).rejects.toMatchObject({
      message: expect.stringContaining('past the context'),
    })
  })

  it('a second step while one runs', async () => {
    openGreedy(engine, 0)
    openGreedy(engine, 1)
    const first = engine.step(rowsOf(0, PROMPT))
    await expect(engine.step(rowsOf(1, PROMPT))).rejects.toMatchObject({ code: 'step_in_flight' })
    expect(() => openGreedy(engine, 2)).toThrow(expect.objectContaining({ code: 'step_in_flight' }))
    await first
  })
})
