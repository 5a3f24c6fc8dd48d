/**
 * What nobody vouches for, as C++ is asked (fuzz-slots.cpp, fuzz-grammar.cpp) and as JavaScript
 * may ask: loads into slots, grammars, and the numbers of sequences and steps. Outcome: it is
 * served, or refused with a code; nothing else, and never a changed slot.
 */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { EngineError } from '../index.ts'
import { NATIVE_PATHS } from '../paths.ts'
import {
  FUZZ_SECONDS,
  FUZZ_SEED,
  FUZZ_TIMEOUT_MS,
  fuzzParameters,
  reportFuzz,
} from './support/fuzz.ts'
import { createSyntheticAdapter } from './support/synthetic-adapter.ts'
import { TINY, writeSyntheticGguf } from './support/synthetic-gguf.ts'
import { createScratchDir, openGreedy, openTinyEngine, rowsOf } from './support/tiny-engine.ts'

const CPU_SECONDS = 1
/** Of a soak's time. */
const SHARES = { slots: 0.4, grammars: 0.3, loads: 0.15, steps: 0.15 }
const dir = createScratchDir()

/** Runs a fuzzer of C++ for its share of the time; what it counted. */
async function runFuzzer(path: string, before: readonly string[], share: number) {
  const model = join(dir, 'fuzz.gguf')
  writeSyntheticGguf(model, TINY)
  const seconds = FUZZ_SECONDS === null ? CPU_SECONDS : FUZZ_SECONDS * share
  const args = [...before, model, String(FUZZ_SEED), String(seconds)]
  const { stdout } = await promisify(execFile)(path, args)
  return JSON.parse(stdout)
}

it(
  'takes exactly the module tables that an independent check takes, and keeps the other slots',
  async () => {
    const { fuzzSlotsPath, libraryDir } = NATIVE_PATHS
    const figures = await runFuzzer(fuzzSlotsPath, [libraryDir], SHARES.slots)
    expect(figures.accepted).toBeGreaterThan(9)
    expect(figures.executions).toBeGreaterThan(figures.accepted)
    reportFuzz('fuzz-slots', figures)
  },
  FUZZ_TIMEOUT_MS,
)

it(
  'refuses a grammar or runs it, in bounded time and memory',
  async () => {
    const figures = await runFuzzer(NATIVE_PATHS.fuzzGrammarPath, [], SHARES.grammars)
    expect(figures.accepted).toBeGreaterThan(7)
    expect(figures.executions).toBeGreaterThan(figures.accepted)
    expect(figures.draws).toBeGreaterThan(figures.accepted)
    expect(figures.cache_bytes_max).toBeGreaterThan(2 ** 25)
    reportFuzz('fuzz-grammar', figures)
  },
  FUZZ_TIMEOUT_MS,
)

const sound = createSyntheticAdapter(TINY, { seed: 1, rank: 2, alpha: 4 })
const FIELDS = ['layer', 'n_in', 'n_out', 'rank', 'a_offset', 'b_offset', 'scale'] as const
const anyNumber = fc.oneof(
  fc.double(),
  fc.integer(),
  fc.maxSafeInteger(),
  fc.nat(1024).map((blocks) => blocks * 64),
  fc.constantFrom(
    2 ** 31,
    -(2 ** 31) - 1,
    2 ** 63,
    -(2 ** 63),
    1e300,
    Number.NaN,
    Number.NEGATIVE_INFINITY,
  ),
)
const moduleChange = fc.record({
  module: fc.nat(sound.manifest.modules.length - 1),
  field: fc.constantFrom(...FIELDS),
  value: anyNumber,
})
const bytes = fc.oneof(fc.constant(sound.payload.length), fc.nat(sound.payload.length + 128))

it(
  'refuses with a code whatever numbers a module table holds, or serves the adapter',
  async () => {
    const engine = await openTinyEngine(dir)
    let executions = 0
    let accepted = 0
    try {
      await fc.assert(
        fc.asyncProperty(
          fc.array(moduleChange, { maxLength: 3 }),
          bytes,
          async (changes, length) => {
            executions += 1
            const modules = sound.manifest.modules.map((module) => ({ ...module }))
            for (const { module, field, value } of changes) {
              const changed = modules[module]
              if (changed) modules[module] = { ...changed, [field]: value }
            }
            const payload = new Uint8Array(length)
            payload.set(sound.payload.subarray(0, length))
            const error: unknown = await engine
              .loadSlot(1, { manifest: { modules }, payload })
              .then(
                () => null,
                (reason: unknown) => reason,
              )
            if (error !== null) {
              const isRefusal =
                error instanceof EngineError &&
                ['pack_mismatch', 'invalid_argument'].includes(error.code)
              if (!isRefusal) throw error
              return
            }
            accepted += 1
            openGreedy(engine, 0)
            await engine.step(rowsOf(0, [40, 41], { slot: 1 }))
            engine.closeSequence(0)
          },
        ),
        fuzzParameters(500, SHARES.loads),
      )
    } finally {
      await engine.close()
    }
    expect(accepted).toBeGreaterThan(0)
    expect(executions).toBeGreaterThan(accepted)
    reportFuzz('NativeEngine.loadSlot', { seed: FUZZ_SEED, executions, accepted })
  },
  FUZZ_TIMEOUT_MS,
)

/** As sampling may be asked for by the protocol; floats at both ends of what they can say. */
const sampling = fc.record({
  temperature: fc.oneof(
    fc.double({ min: 0, max: 2, noNaN: true }),
    fc.constantFrom(0, 1e-45, 1e-39, 2),
  ),
  top_p: fc.oneof(fc.double({ min: 1e-6, max: 1, noNaN: true }), fc.constantFrom(1e-6, 1)),
  top_k: fc.oneof(fc.nat(1000), fc.constantFrom(0, 1, 1000)),
  min_p: fc.oneof(fc.double({ min: 0, max: 1, noNaN: true }), fc.constantFrom(0, 1, 1e-320)),
  frequency_penalty: fc.double({ min: -2, max: 2, noNaN: true }),
  presence_penalty: fc.double({ min: -2, max: 2, noNaN: true }),
  repetition_penalty: fc.oneof(
    fc.double({ min: 0.01, max: 2, noNaN: true }),
    fc.constantFrom(5e-324, 1e-40, 1, 2),
  ),
  seed: fc.nat(0xffff_ffff),
  logit_bias: fc.dictionary(
    fc.nat(TINY.vocabularySize - 1).map(String),
    fc.double({ min: -100, max: 100, noNaN: true }),
    { maxKeys: 4 },
  ),
  grammar: fc.constantFrom(null, null, 'root ::= [a-z]+', 'root ::= "a"'),
})
const anyInt32 = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: -1, max: 5 }) },
  { weight: 1, arbitrary: fc.integer() },
  { weight: 1, arbitrary: fc.constantFrom(63, 64, TINY.vocabularySize, 2 ** 31 - 1, -(2 ** 31)) },
)
const int32s = fc.array(anyInt32, { maxLength: 4 }).map((list) => Int32Array.from(list))
/** A sound row of sequence 0 at its place, or one with other numbers. */
const change = { value: anyInt32, field: fc.constantFrom('token', 'position', 'sequence', 'slot') }
const batch = fc
  .record({
    count: fc.nat(6),
    slot: fc.nat(1),
    changes: fc.array(fc.record({ ...change, at: fc.nat(5) }), { maxLength: 2 }),
  })
  .map(({ count, slot, changes }) => {
    const rows = Array.from({ length: count }, (_, i) => ({
      token: 40 + i,
      position: i,
      sequence: 0,
      slot,
    }))
    for (const { at, field, value } of changes) {
      const found = rows[at]
      if (found) rows[at] = { ...found, [field]: value }
    }
    return rows
  })

it(
  'serves a step or refuses it, whatever numbers a sequence, its pages and rows hold',
  async () => {
    const engine = await openTinyEngine(dir)
    let executions = 0
    let served = 0
    const refuse = (error: unknown): void => {
      if (!(error instanceof EngineError)) throw error
      expect(['invalid_argument', 'slot_empty', 'invalid_grammar']).toContain(error.code)
    }
    const expected = async (): Promise<number | undefined> => {
      openGreedy(engine, 3)
      const { sampled } = await engine.step(rowsOf(3, [40, 41, 42]))
      engine.closeSequence(3)
      return sampled[0]?.token
    }
    try {
      await engine.loadSlot(1, sound)
      const before = await expected()
      const given = fc.record({ sampling, pages: fc.option(int32s), filledCells: anyInt32 })
      await fc.assert(
        fc.asyncProperty(given, batch, int32s, async ({ pages, ...options }, rows, later) => {
          executions += 1
          let isOpen = true
          try {
            const own = pages === null ? {} : { pages, filledCells: options.filledCells }
            const { sampling } = options
            engine.openSequence(0, { sampling, topLogprobs: 2, promptTokens: later, ...own })
          } catch (error) {
            refuse(error)
            isOpen = false
            openGreedy(engine, 0)
          }
          const column = (of: (one: (typeof rows)[number]) => number) => Int32Array.from(rows, of)
          const result = await engine
            .step({
              tokens: column(({ token }) => token),
              positions: column(({ position }) => position),
              sequences: column(({ sequence }) => sequence),
              slots: column(({ slot }) => slot),
              outputs: new Uint8Array(rows.length).fill(1),
            })
            .catch(refuse)
          if (result) served += 1
          for (const { token, isNonFinite, isStuck } of result?.sampled ?? []) {
            expect(isNonFinite).toBe(false)
            const isConstrained = isOpen && options.sampling.grammar !== null
            if (isStuck) expect(isConstrained).toBe(true)
            else expect(token >= 0 && token < TINY.vocabularySize).toBe(true)
          }
          try {
            engine.setPages(0, later, rows.length)
          } catch (error) {
            refuse(error)
          }
          engine.closeSequence(0)
        }),
        fuzzParameters(1500, SHARES.steps),
      )
      expect(await expected()).toBe(before)
    } finally {
      await engine.close()
    }
    expect(served).toBeGreaterThan(0)
    expect(executions).toBeGreaterThan(served)
    reportFuzz('NativeEngine.step', { seed: FUZZ_SEED, executions, served })
  },
  FUZZ_TIMEOUT_MS,
)
