/**
 * What the clients of a pool ask and what they must be answered: random adapters on a tiny base
 * model, and prompts whose greedy completion is known from the engine alone. No two questions have
 * the same answer, and neither do neighbouring tokens of one (but for a few), so that a reply of
 * another request shows, and so does a chunk that is lost, doubled or out of order.
 */
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { NativeEngine } from '../../native/index.ts'
import { Random } from '../../native/test/support/random.ts'
import { createSyntheticAdapter } from '../../native/test/support/synthetic-adapter.ts'
import {
  type SyntheticShape,
  TINY,
  writeSyntheticGguf,
} from '../../native/test/support/synthetic-gguf.ts'
import { type Completion, findReference } from '../lib/greedy-reference.ts'
import { writePeftAdapter } from '../peers/hugging-face-files.ts'

/** A model as it is deployed. */
export interface PoolAdapter {
  readonly name: string
  readonly config: string
  readonly weights: Uint8Array<ArrayBuffer>
}

export interface Question {
  /** Which of the adapters. */
  readonly adapter: number
  readonly prompt: readonly number[]
  /** The whole answer: `completionTokens` tokens, whatever they are. */
  readonly text: string
}

export interface QuestionSet {
  readonly baseModel: string
  readonly modelPath: string
  readonly adapters: readonly PoolAdapter[]
  readonly questions: readonly Question[]
  readonly completionTokens: number
}

export interface QuestionOptions {
  /** Where the base model and the adapters are written. */
  readonly directory: string
  readonly adapters: number
  readonly questions: number
  readonly completionTokens: number
  readonly seed: number
}

export const POOL_CONTEXT_LENGTH = 512
export const POOL_RANK = 4
/** Nearly all of its tokens are words of their own, and a step takes a part of a millisecond. */
const SHAPE: SyntheticShape = { ...TINY, name: 'pool', vocabularySize: 4096 }
const PROMPT_TOKENS = 8
/** Weights in F32: rounding beside other rows moves a logit by less than a hundredth of this. */
const MARGIN_MIN = 0.005
/** Tokens of an answer that equal the one before; random weights are given to stammering. */
const REPEATS_MAX = 2
const SLOT = 1

export async function createQuestions(options: QuestionOptions): Promise<QuestionSet> {
  const { directory, completionTokens, seed } = options
  mkdirSync(directory, { recursive: true })
  const modelPath = join(directory, 'pool.gguf')
  writeSyntheticGguf(modelPath, SHAPE)
  const engine = await NativeEngine.open({
    modelPath,
    modelName: SHAPE.name,
    device: 'cpu',
    slotCount: SLOT,
    rankMax: POOL_RANK,
    sequenceCount: 1,
    contextLength: POOL_CONTEXT_LENGTH,
    rowsMax: 32,
    threads: 1,
  })
  try {
    const adapters: PoolAdapter[] = []
    const questions: Question[] = []
    const texts = new Set<string>()
    const isFit = ({ tokens, text }: Completion): boolean =>
      !texts.has(text) && repeatsOf(tokens) <= REPEATS_MAX
    for (let adapter = 0; adapter < options.adapters; adapter++) {
      const recipe = { seed: seed * 1000 + adapter, rank: POOL_RANK, alpha: POOL_RANK }
      const weights = createSyntheticAdapter(SHAPE, recipe)
      const peft = join(directory, `adapter-${adapter}`)
      writePeftAdapter(peft, weights, SHAPE)
      adapters.push(readAdapter(`model-${adapter}`, peft))
      await engine.loadSlot(SLOT, weights)
      const random = new Random('pool', seed, adapter)
      for (let i = adapter; i < options.questions; i += options.adapters) {
        const reference = await findReference(engine, SLOT, {
          ...{ random, completionTokens, isFit },
          promptTokens: PROMPT_TOKENS,
          marginMin: MARGIN_MIN,
        })
        texts.add(reference.text)
        questions.push({ adapter, ...reference })
      }
    }
    return { baseModel: SHAPE.name, modelPath, adapters, questions, completionTokens }
  } finally {
    await engine.close()
  }
}

function readAdapter(name: string, directory: string): PoolAdapter {
  return {
    name,
    config: readFileSync(join(directory, 'adapter_config.json'), 'utf8'),
    weights: Uint8Array.from(readFileSync(join(directory, 'adapter_model.safetensors'))),
  }
}

function repeatsOf(tokens: readonly number[]): number {
  return tokens.filter((token, i) => token === tokens[i - 1]).length
}
