/**
 * Prompts with the text that one adapter alone gives for them, straight from the engine, past cache
 * and scheduler: what the replies of a run are compared with.
 */
import type { NativeEngine } from '../../native/index.ts'
import type { Random } from '../../native/test/support/random.ts'
import { GREEDY } from '../../native/test/support/requests.ts'

export interface Reference {
  readonly prompt: readonly number[]
  /** Greedy completion of the prompt with the slot's adapter alone in the engine. */
  readonly text: string
}

export interface Completion {
  readonly text: string
  readonly tokens: readonly number[]
  /** Least log probability between the best token and the next, of all tokens. */
  readonly margin: number
}

export interface ReferenceOptions {
  readonly random: Random
  readonly promptTokens: number
  readonly completionTokens: number
  /**
   * Least that the best token leads the next by, in nats: rows beside others round differently, and
   * a tie would count as a wrong answer. Absent = what quantised weights need.
   */
  readonly marginMin?: number
  /** What else the completion must be; absent = anything. */
  readonly isFit?: (completion: Completion) => boolean
}

const MARGIN_MIN = 0.02
const PROMPTS_MAX = 500
/** Of the tokenizer: below are specials. */
const FIRST_TEXT_TOKEN = 3

/** The first of the random prompts that is completed without a near tie. */
export async function findReference(
  engine: NativeEngine,
  slot: number,
  {
    random,
    promptTokens,
    completionTokens,
    marginMin = MARGIN_MIN,
    isFit = () => true,
  }: ReferenceOptions,
): Promise<Reference> {
  const words = engine.info.vocabularySize - FIRST_TEXT_TOKEN
  for (let attempt = 0; attempt < PROMPTS_MAX; attempt++) {
    const prompt = Array.from(
      { length: promptTokens },
      () => FIRST_TEXT_TOKEN + random.integer(words),
    )
    const completion = await complete(engine, slot, prompt, completionTokens)
    if (completion.margin >= marginMin && isFit(completion)) {
      return { prompt, text: completion.text }
    }
  }
  throw new Error(`slot ${slot}: no prompt of ${PROMPTS_MAX} is fit for a reference`)
}

/** Greedy completion alone in the engine, and the least margin of its tokens. */
export async function complete(
  engine: NativeEngine,
  slot: number,
  prompt: readonly number[],
  count: number,
): Promise<Completion> {
  engine.openSequence(0, {
    sampling: GREEDY,
    topLogprobs: 2,
    promptTokens: Int32Array.from(prompt),
  })
  const pieces: Uint8Array[] = []
  const drawnTokens: number[] = []
  let margin = Number.POSITIVE_INFINITY
  let tokens: readonly number[] = prompt
  let position = 0
  while (pieces.length < count) {
    const rows = tokens.length
    const { sampled } = await engine.step({
      tokens: Int32Array.from(tokens),
      positions: Int32Array.from({ length: rows }, (_, row) => position + row),
      sequences: new Int32Array(rows),
      slots: new Int32Array(rows).fill(slot),
      outputs: Uint8Array.from({ length: rows }, (_, row) => (row === rows - 1 ? 1 : 0)),
    })
    const [drawn] = sampled
    const [best, next] = drawn?.top ?? []
    if (drawn === undefined || best === undefined || next === undefined) {
      throw new Error('the engine drew no token')
    }
    margin = Math.min(margin, best.logprob - next.logprob)
    pieces.push(engine.tokenBytes(drawn.token))
    drawnTokens.push(drawn.token)
    position += rows
    tokens = [drawn.token]
  }
  engine.closeSequence(0)
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.concat(pieces))
  return { text, tokens: drawnTokens, margin }
}
