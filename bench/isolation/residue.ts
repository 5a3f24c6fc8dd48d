/**
 * Whether anything of one tenant's is left for the next, on the engine itself: in the cells of
 * pages, in slots, in logits. Before B asks, everything has been A's: every page was filled by A's
 * secret, with numbers that are no numbers too, and every slot held A's adapter, as large as fits.
 * Whatever the secret was, B's answers are to the last bit of every log probability those of an
 * engine that A never saw.
 */
import type { NativeEngine } from '../../native/index.ts'
import { toLogprobRow } from '../../native/test/support/logprobs.ts'
import { Random } from '../../native/test/support/random.ts'
import { GREEDY } from '../../native/test/support/requests.ts'
import { rowsOf } from '../../native/test/support/rows.ts'
import type { SyntheticAdapter } from '../../native/test/support/synthetic-adapter.ts'
import {
  CONTEXT_LENGTH,
  isolationAdapter,
  openIsolationEngine,
  randomWords,
} from './known-answers.ts'

export interface ResidueOutcome {
  readonly rounds: number
  /** Log probabilities that were compared, each to the bit. */
  readonly compared: number
  readonly differing: number
  readonly findings: readonly string[]
}

const SLOTS = 2
const SEQUENCES = 3
const PROMPT_TOKENS = 37
const DRAWS = 4
/** Of A, which leaves them everywhere. */
const NAN_HALF = 0x7e00

type Stage = (engine: NativeEngine, round: number) => Promise<void>

export async function checkResidue(
  modelPath: string,
  { rounds, seed }: { readonly rounds: number; readonly seed: number },
): Promise<ResidueOutcome> {
  const findings: string[] = []
  let compared = 0
  let differing = 0
  const used = await open(modelPath)
  try {
    for (let round = 0; round < rounds; round += 1) {
      const fresh = await answersOfB(modelPath, seed, round, null)
      for (const [name, stage] of Object.entries(STAGES)) {
        const found = await answersOfB(modelPath, seed, round, { engine: used, stage })
        compared += fresh.length
        const count = countDiffering(fresh, found)
        differing += count
        if (count > 0) findings.push(`round ${round}, after ${name}: ${count} numbers differ`)
      }
    }
  } finally {
    await used.close()
  }
  return { rounds, compared, differing, findings }
}

function open(modelPath: string): Promise<NativeEngine> {
  return openIsolationEngine(modelPath, { slots: SLOTS, sequences: SEQUENCES, threads: 1 })
}

/** What A does to the engine before B comes. */
const STAGES: Readonly<Record<string, Stage>> = {
  'a secret in every cell': (engine, round) => fillWith(engine, round, false),
  'no numbers in every cell': (engine, round) => fillWith(engine, round, true),
  'a secret, left in the middle': async (engine, round) => {
    await fillWith(engine, round, false)
    open0(engine)
    await engine.step(rowsOf(0, randomWords(new Random('cut', round), 100), { slot: 1 }))
    // It goes without another step: the cells, the sampler and the slot are as they were.
    engine.closeSequence(0)
  },
}

async function fillWith(engine: NativeEngine, round: number, isPoisoned: boolean): Promise<void> {
  const adapter = isolationAdapter(7000 + round, engine.info.baseDigest)
  if (isPoisoned) halvesOf(adapter).fill(NAN_HALF)
  for (let slot = 1; slot <= SLOTS; slot += 1) await engine.loadSlot(slot, adapter)
  const random = new Random('secret', round, isPoisoned ? 1 : 0)
  for (let sequence = 0; sequence < SEQUENCES; sequence += 1) {
    engine.openSequence(sequence, { sampling: GREEDY, topLogprobs: -1, promptTokens: NONE })
    const words = randomWords(random, CONTEXT_LENGTH)
    await engine.step(rowsOf(sequence, words, { slot: 1 + (sequence % SLOTS) }))
    engine.closeSequence(sequence)
  }
}

/** All log probabilities that B is given, on an engine of its own or after A. */
async function answersOfB(
  modelPath: string,
  seed: number,
  round: number,
  after: { readonly engine: NativeEngine; readonly stage: Stage } | null,
): Promise<Float32Array> {
  const engine = after?.engine ?? (await open(modelPath))
  try {
    await after?.stage(engine, round)
    const random = new Random('residue', seed, round)
    const adapter = isolationAdapter(9000 + round, engine.info.baseDigest)
    const slot = 1 + random.integer(SLOTS)
    engine.clearSlot(slot)
    await engine.loadSlot(slot, adapter)
    const sequence = random.integer(SEQUENCES)
    // Pages in any order: of several of A's sequences, and not all of a page is filled.
    const pages = Array.from({ length: engine.limits.pageCount }, (_, page) => page)
      .sort(() => random.fraction() - 0.5)
      .slice(0, 4)
    engine.openSequence(sequence, {
      ...{ sampling: GREEDY, topLogprobs: engine.info.vocabularySize, promptTokens: NONE },
      ...{ pages: Int32Array.from(pages), filledCells: 0 },
    })
    const rows: Float32Array[] = []
    let tokens = randomWords(random, PROMPT_TOKENS)
    for (let draw = 0, position = 0; draw < DRAWS; draw += 1) {
      const { sampled } = await engine.step(rowsOf(sequence, tokens, { position, slot }))
      const [drawn] = sampled
      if (drawn === undefined || drawn.isNonFinite) rows.push(Float32Array.of(Number.NaN))
      else rows.push(toLogprobRow(drawn.top, engine.info.vocabularySize))
      position += tokens.length
      tokens = [drawn?.token ?? 0]
    }
    engine.closeSequence(sequence)
    return Float32Array.from(rows.flatMap((row) => [...row]))
  } finally {
    if (after === null) await engine.close()
  }
}

const NONE = new Int32Array(0)

function open0(engine: NativeEngine): void {
  engine.openSequence(0, { sampling: GREEDY, topLogprobs: -1, promptTokens: NONE })
}

function halvesOf({ payload }: SyntheticAdapter): Uint16Array {
  return new Uint16Array(payload.buffer, payload.byteOffset, payload.byteLength / 2)
}

function countDiffering(one: Float32Array, other: Float32Array): number {
  if (one.length !== other.length) return Math.max(one.length, other.length)
  return one.filter((value, index) => !Object.is(value, other[index])).length
}
