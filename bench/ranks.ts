/**
 * `ranks`: what an adapter's rank costs in memory and in time, and whether a batch of mixed ranks
 * pays for its largest. The slots are sized for the largest rank throughout.
 */
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import type { NativeEngine } from '../native/index.ts'
import {
  createBenchAdapter,
  ensureShape,
  openBenchEngine,
  type ShapeName,
} from './lib/base-model.ts'
import { collectGarbage } from './lib/collect-garbage.ts'
import { generateTogether } from './lib/generate.ts'
import { median, significant } from './lib/statistics.ts'

export interface RanksOptions {
  readonly shape: ShapeName
  readonly rounds: number
  /** Decoding steps of each measurement. */
  readonly tokens: number
  /** 0 = one per core. */
  readonly threads: number
}

const RANKS: readonly number[] = [4, 8, 16, 32, 64, 128, 256]
/** Sequences that decode together, each with its own adapter. */
const TENANTS = 8
const RANK_MAX = Math.max(...RANKS)
/** One of each, and one rank twice to fill the batch. */
const MIXED = [...RANKS, 4]

/** Fields of the report are explained in this folder's README. */
export async function runRanks(options: RanksOptions) {
  const { shape, rounds, tokens } = options
  const threads = options.threads || availableParallelism()
  const modelPath = await ensureShape(shape)
  const sizes = { slots: TENANTS, rank: RANK_MAX, sequences: TENANTS, threads }
  const engine = await openBenchEngine(modelPath, sizes)
  try {
    const batches = [...RANKS.map((rank) => new Array<number>(TENANTS).fill(rank)), MIXED]
    const added: number[][] = batches.map(() => [])
    const baseMs: number[] = []
    const facts = batches.map(() => ({ adapterBytes: 0, grownBytes: 0 }))
    for (let round = 0; round <= rounds; round++) {
      for (const [index, ranks] of batches.entries()) {
        facts[index] = await loadBatch(engine, ranks)
        const base = await stepMs(engine, tokens, false)
        const withAdapters = await stepMs(engine, tokens, true)
        if (round === 0) continue
        baseMs.push(base)
        added[index]?.push(withAdapters - base)
      }
      process.stderr.write(`ranks: round ${round} of ${rounds}\n`)
    }
    const addedMs = added.map((values) => median(values))
    // Of each rank, what one of the eight adapters adds; the mixed batch has these together.
    const share = (rank: number): number => (addedMs[RANKS.indexOf(rank)] ?? 0) / TENANTS
    const parts = MIXED.reduce((sum, rank) => sum + share(rank), 0)
    const mixedMs = addedMs[RANKS.length] ?? Number.NaN
    return {
      ...{ shape, tenants: TENANTS, threads, device: engine.info.device, rounds, tokens },
      base_step_ms: significant(median(baseMs)),
      ranks: RANKS.map((rank, index) => ({
        rank,
        adapter_bytes: facts[index]?.adapterBytes ?? 0,
        slot_grown_bytes: Math.round((facts[index]?.grownBytes ?? 0) / TENANTS),
        added_ms: significant(addedMs[index] ?? Number.NaN, 3),
      })),
      mixed: {
        ranks: MIXED,
        added_ms: significant(mixedMs, 3),
        sum_of_parts_ms: significant(parts, 3),
        ratio_parts: significant(mixedMs / parts, 3),
        ratio_largest: significant(mixedMs / (addedMs[RANKS.length - 1] ?? Number.NaN), 3),
      },
    }
  } finally {
    await engine.close()
  }
}

/** Fills the slots; gives the last adapter's bytes and how much the process's memory grew. */
async function loadBatch(engine: NativeEngine, ranks: readonly number[]) {
  for (let slot = 1; slot <= ranks.length; slot++) await load(engine, slot, 1)
  const before = anonymousBytes()
  let adapterBytes = 0
  for (const [index, rank] of ranks.entries()) adapterBytes = await load(engine, index + 1, rank)
  return { adapterBytes, grownBytes: anonymousBytes() - before }
}

async function load(engine: NativeEngine, slot: number, rank: number): Promise<number> {
  const adapter = createBenchAdapter(engine, slot, rank)
  await engine.loadSlot(slot, adapter)
  return adapter.payload.length
}

/** Memory of this process that no file stands behind, once JavaScript's garbage is gone. */
function anonymousBytes(): number {
  collectGarbage()
  const rollup = readFileSync('/proc/self/smaps_rollup', 'utf8')
  const kib = /^Anonymous:\s+(\d+) kB$/m.exec(rollup)?.[1]
  if (kib === undefined) throw new Error('/proc/self/smaps_rollup has no line Anonymous')
  return Number(kib) * 1024
}

/** Mean milliseconds of a decoding step. */
async function stepMs(engine: NativeEngine, tokens: number, hasAdapters: boolean): Promise<number> {
  const prompts = Array.from({ length: TENANTS }, (_, index) => [300 + index * 31])
  const slots = prompts.map((_, index) => (hasAdapters ? index + 1 : 0))
  const { decodeMs } = await generateTogether(engine, prompts, slots, tokens + 1)
  return decodeMs / tokens
}
