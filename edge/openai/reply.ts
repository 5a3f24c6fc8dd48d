/**
 * What the two kinds of completion have in common when they are written: who answers, what is
 * counted, how a finish is called. A ReplyFormat makes OpenAI's objects and nothing else.
 */
import type { ChunkEvent, EndEvent } from '../pool/host-client.ts'

export interface ReplyHead {
  /** Without its prefix. */
  readonly id: string
  /** Unix seconds. */
  readonly created: number
  /** As the client called it. */
  readonly model: string
}

export interface ReplyFormat {
  /** Sent before any text; null = nothing is. */
  start(): object | null
  chunk(event: ChunkEvent): object
  finish(event: EndEvent): object
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

/** `abort` and `error` are no ends that a client may be told of as one: see toLiveEvent. */
export function toFinishReason({ finish_reason }: EndEvent): 'stop' | 'length' {
  return finish_reason === 'length' ? 'length' : 'stop'
}

export function joinText(chunks: readonly ChunkEvent[]): string {
  return chunks.map((chunk) => chunk.text).join('')
}
