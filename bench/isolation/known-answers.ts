/**
 * Adapters on a tiny base model, prompts that begin alike, and what the base and each adapter says
 * to each of them, token by token: at every place all of them say different words, so that a single
 * token of another adapter shows. All is asked of the engine twice, in another order and through
 * other slots, and must be the same.
 */
import { createHash } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { writePack } from '../../gpu-host/adapters/pack-file.ts'
import { NativeEngine } from '../../native/index.ts'
import { Random } from '../../native/test/support/random.ts'
import {
  createSyntheticAdapter,
  type SyntheticAdapter,
} from '../../native/test/support/synthetic-adapter.ts'
import {
  type SyntheticShape,
  TINY,
  writeSyntheticGguf,
} from '../../native/test/support/synthetic-gguf.ts'
import { type Completion, complete } from '../lib/greedy-reference.ts'

export interface KnownAdapter {
  /** null = the base model alone. */
  readonly digest: string | null
  /** Text of each token of its answer, by prompt. */
  readonly answers: readonly (readonly string[])[]
}

export interface KnownAnswers {
  readonly modelPath: string
  readonly adapters: readonly KnownAdapter[]
  readonly prompts: readonly (readonly number[])[]
  readonly payloadBytes: number
  /** Answers that the second pass was asked for anew, all equal to the first's. */
  readonly passedTwice: number
}

export interface KnownAnswersOptions {
  /** The base model is written here, and the packs into `packs`. */
  readonly directory: string
  readonly packs: string
  readonly adapters: number
  /** Beginnings that prompts share, and prompts for each. */
  readonly prefixes: number
  readonly promptsPerPrefix: number
  readonly seed: number
}

export const ANSWER_TOKENS = 5
export const CONTEXT_LENGTH = 704
export const RANK = 4
/** Nearly all of its tokens are words of their own; weights in F32 round alike in any company. */
const SHAPE: SyntheticShape = { ...TINY, name: 'isolation', vocabularySize: 4096 }
export const BASE_MODEL: string = SHAPE.name
const PREFIX_TOKENS = [48, 80, 80, 600]
const TAIL_TOKENS_MAX = 12
/** Below are specials. */
const FIRST_WORD = 3
/** Rounding beside other rows moves a logit by less than a hundredth of this. */
const MARGIN_MIN = 0.004
const TRIES_MAX = 1000
/** Whole characters, which come out as they are drawn. */
const IS_WORD = /^[\x20-\x7e]+$/
const SLOTS = 3

export async function createKnownAnswers(options: KnownAnswersOptions): Promise<KnownAnswers> {
  const { directory, packs, seed } = options
  mkdirSync(packs, { recursive: true })
  const modelPath = join(directory, 'isolation.gguf')
  writeSyntheticGguf(modelPath, SHAPE)
  const engine = await openIsolationEngine(modelPath, { slots: SLOTS, sequences: 1, threads: 1 })
  try {
    const base = { model: BASE_MODEL, digest: engine.info.baseDigest }
    const adapters = Array.from({ length: options.adapters }, (_, index) => {
      const recipe = { seed: seed * 1000 + Math.floor(index / 2), rank: RANK, alpha: RANK, base }
      const adapter = createSyntheticAdapter(SHAPE, recipe)
      // Every second one has the weights of the one before it, and another scale.
      return index % 2 === 0 ? adapter : withScale(adapter, 2)
    })
    for (const adapter of adapters) await keep(adapter, packs)
    const everyone = [null, ...adapters]
    const found = await findPrompts(engine, everyone, options)
    const passedTwice = await assertSame(engine, everyone, found)
    return {
      modelPath,
      prompts: found.map(({ prompt }) => prompt),
      adapters: everyone.map((adapter, index) => ({
        digest: adapter?.manifest.digest ?? null,
        answers: found.map(({ answers }) => textsOf(engine, answers[index]?.tokens ?? [])),
      })),
      payloadBytes: adapters[0]?.payload.length ?? 0,
      passedTwice,
    }
  } finally {
    await engine.close()
  }
}

export function openIsolationEngine(
  modelPath: string,
  sizes: { readonly slots: number; readonly sequences: number } & {
    readonly threads: number
    readonly kvCells?: number
  },
): Promise<NativeEngine> {
  return NativeEngine.open({
    ...{ modelPath, modelName: BASE_MODEL, device: 'cpu', threads: sizes.threads },
    ...{ slotCount: sizes.slots, rankMax: RANK, sequenceCount: sizes.sequences },
    ...{ contextLength: CONTEXT_LENGTH, kvCells: sizes.kvCells ?? 0, rowsMax: 1024 },
  })
}

export function isolationAdapter(seed: number, baseDigest: string): SyntheticAdapter {
  const base = { model: BASE_MODEL, digest: baseDigest }
  return createSyntheticAdapter(SHAPE, { seed, rank: RANK, alpha: RANK, base })
}

export function randomWords(random: Random, count: number): number[] {
  const word = () => FIRST_WORD + random.integer(SHAPE.vocabularySize - FIRST_WORD)
  return Array.from({ length: count }, word)
}

/** As the disk tier has it. */
export async function keep(adapter: SyntheticAdapter, packs: string): Promise<void> {
  const hex = adapter.manifest.digest.slice('sha256:'.length)
  await writePack(join(packs, `${hex}.nzpack`), adapter)
}

/** As another `lora_alpha` makes it. */
function withScale({ manifest, payload }: SyntheticAdapter, factor: number): SyntheticAdapter {
  const modules = manifest.modules.map((module) => ({ ...module, scale: factor * module.scale }))
  const hash = createHash('sha256').update(`${manifest.digest} × ${factor}`).digest('hex')
  const alpha = factor * manifest.alpha
  return { manifest: { ...manifest, digest: `sha256:${hash}`, alpha, modules }, payload }
}

interface Found {
  readonly prompt: readonly number[]
  /** By adapter. */
  readonly answers: readonly Completion[]
}

async function findPrompts(
  engine: NativeEngine,
  everyone: readonly (SyntheticAdapter | null)[],
  { prefixes, promptsPerPrefix, seed }: KnownAnswersOptions,
): Promise<Found[]> {
  const found: Found[] = []
  for (let prefix = 0; prefix < prefixes; prefix += 1) {
    const random = new Random('isolation', seed, prefix)
    const beginning = randomWords(random, PREFIX_TOKENS[prefix % PREFIX_TOKENS.length] ?? 0)
    for (let count = 0, tries = 0; count < promptsPerPrefix; tries += 1) {
      if (tries === TRIES_MAX) throw new Error('no prompt tells the adapters apart')
      const tail = randomWords(random, 1 + random.integer(TAIL_TOKENS_MAX))
      const prompt = [...beginning, ...tail]
      const answers = await answersOf(engine, everyone, prompt)
      if (answers === null) continue
      found.push({ prompt, answers })
      count += 1
    }
  }
  return found
}

/** null = they are not told apart at every token, or one is nearly undecided. */
async function answersOf(
  engine: NativeEngine,
  everyone: readonly (SyntheticAdapter | null)[],
  prompt: readonly number[],
): Promise<Completion[] | null> {
  const answers: Completion[] = []
  const said = Array.from({ length: ANSWER_TOKENS }, () => new Set<string>())
  for (const [index, adapter] of everyone.entries()) {
    const answer = await answerOf(engine, adapter, 1 + (index % SLOTS), prompt)
    if (answer.margin < MARGIN_MIN) return null
    const texts = textsOf(engine, answer.tokens)
    for (const [at, text] of texts.entries()) {
      if (!IS_WORD.test(text) || said[at]?.has(text)) return null
      said[at]?.add(text)
    }
    answers.push(answer)
  }
  return answers
}

async function answerOf(
  engine: NativeEngine,
  adapter: SyntheticAdapter | null,
  slot: number,
  prompt: readonly number[],
): Promise<Completion> {
  if (adapter !== null) await engine.loadSlot(slot, adapter)
  return complete(engine, adapter === null ? 0 : slot, prompt, ANSWER_TOKENS)
}

/** The second pass: backwards, so that each slot and cell held something else before. */
async function assertSame(
  engine: NativeEngine,
  everyone: readonly (SyntheticAdapter | null)[],
  found: readonly Found[],
): Promise<number> {
  let passed = 0
  for (const { prompt, answers } of found.toReversed()) {
    for (const index of everyone.map((_, at) => at).toReversed()) {
      const again = await answerOf(
        engine,
        everyone[index] ?? null,
        1 + ((index + 1) % SLOTS),
        prompt,
      )
      const before = answers[index]?.tokens.join()
      if (again.tokens.join() !== before) {
        throw new Error(`the two reference passes differ: ${before} and ${again.tokens.join()}`)
      }
      passed += 1
    }
  }
  return passed
}

function textsOf(engine: NativeEngine, tokens: readonly number[]): string[] {
  return tokens.map((token) => Buffer.from(engine.tokenBytes(token)).toString('utf8'))
}
