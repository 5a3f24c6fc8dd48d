/**
 * Pages of the KV pool: where a sequence's cells lie changes no bit, a full page serves several
 * sequences, and nothing that they share is ever written.
 */
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { NativeEngine, type NativeSamplingOptions } from '../index.ts'
import { firstDifference, toLogprobRow } from './support/logprobs.ts'
import { Random } from './support/random.ts'
import { GREEDY } from './support/requests.ts'
import { createSyntheticAdapter } from './support/synthetic-adapter.ts'
import { TINY } from './support/synthetic-gguf.ts'
import { createScratchDir, openTinyEngine, rowsOf, tinyOptions } from './support/tiny-engine.ts'

const CONTEXT = 128
const dir = createScratchDir()
let engine: NativeEngine
let cells: number

beforeAll(async () => {
  engine = await openTinyEngine(dir, { contextLength: CONTEXT, rowsMax: CONTEXT })
  cells = engine.limits.pageCells
  await engine.loadSlot(1, createSyntheticAdapter(TINY, { seed: 1, rank: 4, alpha: 8 }))
})
afterAll(() => engine.close())
afterEach(() => {
  for (let sequence = 0; sequence < engine.limits.sequenceCount; sequence++) {
    engine.closeSequence(sequence)
  }
})

function open(
  sequence: number,
  pages: readonly number[],
  filledCells = 0,
  sampling: Partial<NativeSamplingOptions> = {},
): void {
  engine.openSequence(sequence, {
    sampling: { ...GREEDY, ...sampling },
    topLogprobs: engine.info.vocabularySize,
    promptTokens: new Int32Array(0),
    pages: Int32Array.from(pages),
    filledCells,
  })
}

/** Runs `tokens` from `position` on, then draws; every row's log probabilities and the draws. */
async function run(
  sequence: number,
  tokens: readonly number[],
  { position = 0, slot = 1, drawCount = 1 } = {},
): Promise<{ drawn: number[]; rows: Float32Array[] }> {
  const drawn: number[] = []
  const rows: Float32Array[] = []
  let next = [...tokens]
  let at = position
  while (drawn.length < drawCount) {
    const { sampled } = await engine.step(rowsOf(sequence, next, { position: at, slot }))
    const [result] = sampled
    if (result === undefined) throw new Error('a row with an output gave no token')
    rows.push(toLogprobRow(result.top, engine.info.vocabularySize))
    drawn.push(result.token)
    at += next.length
    next = [result.token]
  }
  return { drawn, rows }
}

function randomTokens(name: string, count: number): number[] {
  const random = new Random(name)
  return Array.from({ length: count }, () => random.integer(TINY.vocabularySize))
}

const range = (from: number, count: number): number[] =>
  Array.from({ length: count }, (_, index) => from + index)
const refused = (text: string) =>
  expect.objectContaining({ code: 'invalid_argument', message: expect.stringContaining(text) })

describe('pages', () => {
  it('give the same bits wherever they lie', async () => {
    const tokens = randomTokens('scattered', 3 * cells + 5)
    open(0, range(0, 6))
    open(1, [31, 8, 23, 9, 30, 7])
    const expected = await run(0, tokens, { drawCount: cells + 3 })
    const scattered = await run(1, tokens, { drawCount: cells + 3 })
    expect(firstDifference(scattered.rows, expected.rows)).toBeNull()
    expect(scattered.drawn).toEqual(expected.drawn)
  })

  it('serve a second sequence as if it had computed them, while the first goes on', async () => {
    const prefix = randomTokens('prefix', 3 * cells)
    const [one, other] = [randomTokens('one', 7), randomTokens('other', 4)]
    open(0, range(0, 6))
    const expected = await run(0, [...prefix, ...other], { drawCount: 9 })
    open(0, range(0, 6))
    const first = await run(0, [...prefix, ...one])
    open(1, [0, 1, 2, 20], prefix.length)
    const second = await run(1, other, { position: prefix.length, drawCount: 9 })
    expect(firstDifference(second.rows, expected.rows)).toBeNull()
    expect(second.drawn).toEqual(expected.drawn)
    // The first never noticed.
    const position = prefix.length + one.length
    const [drawn = 0] = first.drawn
    const after = await run(0, [drawn], { position, drawCount: 5 })
    open(2, range(24, 6))
    const alone = await run(2, [...prefix, ...one], { drawCount: 6 })
    expect(after.drawn).toEqual(alone.drawn.slice(1))
  })

  it('may be taken and given back: replayed tokens draw on as if nothing had happened', async () => {
    const hot = { temperature: 1.5, seed: 7 }
    const prompt = randomTokens('replayed', cells + 3)
    open(0, range(0, 4), 0, hot)
    const expected = await run(0, prompt, { drawCount: 12 })
    open(0, range(0, 4), 0, hot)
    const { drawn } = await run(0, prompt, { drawCount: 5 })
    engine.setPages(0, new Int32Array(0), 0)
    engine.setPages(0, Int32Array.of(9, 5, 6), 0)
    const resumed = await run(0, [...prompt, ...drawn], { drawCount: 7 })
    expect([...drawn, ...resumed.drawn]).toEqual(expected.drawn)
  })

  it('hold a stretch of its own for a sequence that names none', async () => {
    const { contextLength, pageCount, sequenceCount } = engine.limits
    expect(pageCount).toBe((sequenceCount * contextLength) / cells)
    engine.openSequence(3, { sampling: GREEDY, topLogprobs: -1, promptTokens: new Int32Array(0) })
    await expect(engine.step(rowsOf(3, randomTokens('whole', CONTEXT)))).resolves.toBeDefined()
  })
})

describe('pages on the graph of other devices', () => {
  it('serve a second sequence while the first goes on', async () => {
    const own = engine
    engine = await NativeEngine.open({
      ...{ ...tinyOptions(join(dir, 'tiny.gguf')), graph: 'portable' },
      ...{ contextLength: CONTEXT, rowsMax: CONTEXT },
    })
    try {
      const prefix = randomTokens('prefix', 3 * cells)
      const [one, other] = [randomTokens('one', 7), randomTokens('other', 4)]
      open(0, range(0, 6))
      const expected = await run(0, [...prefix, ...other], { slot: 0, drawCount: 9 })
      open(0, [13, 8, 9, 7, 2, 1])
      const first = await run(0, [...prefix, ...one], { slot: 0 })
      open(1, [13, 8, 9, 20], prefix.length)
      const second = await run(1, other, { slot: 0, position: prefix.length, drawCount: 9 })
      expect(second.drawn).toEqual(expected.drawn)
      const [drawn = 0] = first.drawn
      const position = prefix.length + one.length
      const after = await run(0, [drawn], { slot: 0, position, drawCount: 5 })
      open(2, range(24, 6))
      const alone = await run(2, [...prefix, ...one], { slot: 0, drawCount: 6 })
      expect(after.drawn).toEqual(alone.drawn.slice(1))
    } finally {
      await engine.close()
      engine = own
    }
  })
})

describe('a step refuses, changing nothing,', () => {
  it('a row past the pages of its sequence', async () => {
    open(0, [4])
    await run(0, randomTokens('full', cells))
    await expect(engine.step(rowsOf(0, [1], { position: cells }))).rejects.toEqual(
      refused(`position ${cells} is past the pages`),
    )
    engine.setPages(0, Int32Array.of(4, 5), cells)
    await expect(engine.step(rowsOf(0, [1], { position: cells }))).resolves.toBeDefined()
  })

  it('to write a page that another sequence has too', async () => {
    open(0, [1, 2])
    await run(0, randomTokens('shared', cells))
    open(1, [1, 2], cells)
    for (const sequence of [0, 1]) {
      const rows = rowsOf(sequence, [1], { position: cells })
      await expect(engine.step(rows)).rejects.toEqual(refused('page 2 is shared'))
    }
    engine.closeSequence(1)
    await expect(engine.step(rowsOf(0, [1], { position: cells }))).resolves.toBeDefined()
  })
})

describe('setPages and openSequence refuse', () => {
  const lists: [string, (pageCount: number) => number[], number, string][] = [
    ['a page that does not exist', (count) => [0, count], 0, 'does not exist'],
    ['a negative page', () => [-1], 0, 'page -1 does not exist'],
    ['a page twice', () => [3, 4, 3], 0, 'page 3 stands there twice'],
    ['more pages than a context takes', (count) => range(0, count), 0, 'at most'],
    ['more filled cells than pages hold', () => [1, 2], 33, 'cannot hold 33'],
  ]

  it.each(lists)('%s', async (_, toPages, filledCells, text) => {
    const pages = Int32Array.from(toPages(engine.limits.pageCount))
    open(0, [6, 7])
    await run(0, [1, 2, 3])
    expect(() => engine.setPages(0, pages, filledCells)).toThrow(refused(text))
    expect(() => open(1, [...pages], filledCells)).toThrow(refused(text))
    // The sequence has its own pages still.
    await expect(engine.step(rowsOf(0, [4], { position: 3 }))).resolves.toBeDefined()
    await expect(engine.step(rowsOf(1, [4]))).rejects.toEqual(refused('not open'))
  })

  it('what is no list, and a sequence that is not open', () => {
    expect(() => engine.setPages(0, [1] as unknown as Int32Array, 0)).toThrow(refused('Int32Array'))
    expect(() => engine.setPages(0, Int32Array.of(1), 0)).toThrow(refused('not open'))
    expect(() => engine.setPages(9, Int32Array.of(1), 0)).toThrow(refused('sequence'))
  })

  it('a change while a step runs', async () => {
    open(0, [0, 1])
    const step = engine.step(rowsOf(0, [1, 2, 3]))
    expect(() => engine.setPages(0, Int32Array.of(0), 0)).toThrow(
      expect.objectContaining({ code: 'step_in_flight' }),
    )
    await step
  })
})

describe('open', () => {
  it('takes a pool of any size from one context on, and refuses a smaller one', async () => {
    const options = { ...tinyOptions(join(dir, 'tiny.gguf')), contextLength: 60 }
    const small = await NativeEngine.open({ ...options, kvCells: 100 })
    expect(small.limits).toMatchObject({ pageCount: Math.ceil(100 / cells), pageCells: cells })
    await small.close()
    await expect(NativeEngine.open({ ...options, kvCells: 59 })).rejects.toEqual(
      refused('cannot hold one context of 60'),
    )
  })
})
