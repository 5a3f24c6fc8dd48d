/** Replies of legacy completions, whole and in chunks; both have the same object name. */
import type { ChunkEvent } from '../pool/host-client.ts'
import { joinText, type ReplyFormat, type ReplyHead, toFinishReason, toUsage } from './reply.ts'

export function createCompletionReply(head: ReplyHead): ReplyFormat {
  const { id, created, model } = head
  const envelope = { id: `cmpl-${id}`, object: 'text_completion', created, model }
  let textOffset = 0
  const replyOf = (chunks: readonly ChunkEvent[], finish: string | null): object => {
    const logprobs = toLogprobs(chunks, textOffset)
    const text = joinText(chunks)
    textOffset += text.length
    return { ...envelope, choices: [{ index: 0, text, logprobs, finish_reason: finish }] }
  }
  return {
    start: () => null,
    chunk: (event) => replyOf([event], null),
    finish: (event) => replyOf([], toFinishReason(event)),
    usage: (event) => ({ ...envelope, choices: [], usage: toUsage(event) }),
    whole: (chunks, event) => ({
      ...replyOf(chunks, toFinishReason(event)),
      usage: toUsage(event),
    }),
  }
}

/** Parallel arrays, one entry a token; null when none were asked for. */
function toLogprobs(chunks: readonly ChunkEvent[], textOffset: number): object | null {
  const tokens = chunks.flatMap((chunk) => chunk.logprobs ?? [])
  if (tokens.length === 0) return null
  let offset = textOffset
  const textOffsets = tokens.map(({ token }) => {
    const at = offset
    offset += token.length
    return at
  })
  return {
    tokens: tokens.map(({ token }) => token),
    token_logprobs: tokens.map(({ logprob }) => logprob),
    top_logprobs: tokens.map(({ top }) =>
      Object.fromEntries(top.map(({ token, logprob }) => [token, logprob])),
    ),
    text_offset: textOffsets,
  }
}
