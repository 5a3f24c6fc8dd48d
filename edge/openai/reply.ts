/**
 * What the two kinds of completion have in common when they are written: who answers, what is
 * counted, how a finish is called. A ReplyFormat makes OpenAI's objects and nothing else.
 */
import type { ChunkEvent, EndEvent, TokenLogprobs } from '#protocol'

export interface ReplyHead {
  /** Without its prefix. */
  readonly id: string
  /** Unix seconds. */
  readonly created: number
  /** As the client called it. */
  readonly model: string
  /** How many the client asked for. */
  readonly choices: number
  /** The reply says which tier served it. */
  readonly withTier: boolean
  /** Tools whose calls are read out of the answer; null = it is text. */
  readonly callable: ReadonlySet<string> | null
}

export interface ReplyFormat {
  /** Sent before any text. */
  start(): readonly object[]
  /** None for a token that shows nothing yet. */
  chunk(event: ChunkEvent): readonly object[]
  /** After the last chunk of a choice. */
  finish(event: ChunkEvent): object
  /** The last chunk, without choices. */
  usage(event: EndEvent): object
  /** All of it at once. */
  whole(chunks: readonly ChunkEvent[], event: EndEvent): object
}

export function toUsage({ usage }: EndEvent): object {
  return {
    prompt_tokens: usage.prompt_tokens,
    completion_tokens: usage.completion_tokens,
    total_tokens: usage.prompt_tokens + usage.completion_tokens,
    prompt_tokens_details: { cached_tokens: usage.cached_prompt_tokens },
  }
}

export interface Choice {
  readonly index: number
  readonly text: string
  readonly chunks: readonly ChunkEvent[]
  readonly finish: ChunkEvent['finish_reason']
}

/** Chunks of `count` choices, mixed as they came → each choice's own. */
export function toChoices(chunks: readonly ChunkEvent[], count: number): Choice[] {
  return Array.from({ length: count }, (_, index) => {
    const own = chunks.filter(({ choice }) => choice === index)
    const text = own.map((chunk) => chunk.text).join('')
    return { index, text, chunks: own, finish: own.at(-1)?.finish_reason ?? null }
  })
}

/** null = log probabilities were not asked for; an answer without text has none to tell. */
export function toTokens(chunks: readonly ChunkEvent[]): TokenLogprobs[] | null {
  if (chunks.every((chunk) => chunk.logprobs === undefined)) return null
  return chunks.flatMap((chunk) => chunk.logprobs ?? [])
}
