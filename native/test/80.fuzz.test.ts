/**
 * Loads that nobody vouches for, into slots: as C++ is asked (fuzz-slots.cpp) and as JavaScript may
 * ask. Outcome: an adapter in the slot or a refusal; nothing else, and never a changed slot.
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
/** Of a soak's time, the part of the JavaScript side. */
const SCRIPT_SHARE = 0.25
const dir = createScratchDir()

it(
  'takes exactly the module tables that an independent check takes, and keeps the other slots',
  async () => {
    const model = join(dir, 'fuzz.gguf')
    writeSyntheticGguf(model, TINY)
    const seconds = FUZZ_SECONDS === null ? CPU_SECONDS : FUZZ_SECONDS * (1 - SCRIPT_SHARE)
    const args = [NATIVE_PATHS.libraryDir, model, String(FUZZ_SEED), String(seconds)]
    const { stdout } = await promisify(execFile)(NATIVE_PATHS.fuzzSlotsPath, args)
    const figures = JSON.parse(stdout)
    expect(figures.accepted).toBeGreaterThan(9)
    expect(figures.executions).toBeGreaterThan(figures.accepted)
    reportFuzz('fuzz-slots', figures)
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
const change = fc.record({
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
        fc.asyncProperty(fc.array(change, { maxLength: 3 }), bytes, async (changes, length) => {
          executions += 1
          const modules = sound.manifest.modules.map((module) => ({ ...module }))
          for (const { module, field, value } of changes) {
            const changed = modules[module]
            if (changed) modules[module] = { ...changed, [field]: value }
          }
          const payload = new Uint8Array(length)
          payload.set(sound.payload.subarray(0, length))
          const error: unknown = await engine.loadSlot(1, { manifest: { modules }, payload }).then(
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
        }),
        fuzzParameters(500, SCRIPT_SHARE),
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
