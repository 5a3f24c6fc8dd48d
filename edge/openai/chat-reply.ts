/** Replies of chat/completions, whole and in chunks. */
import type { TokenLogprobs } from '#protocol'
import type { ChunkEvent, EndEvent } from '../pool/host-client.ts'
import { joinText, type ReplyFormat, type ReplyHead, toFinishReason, toUsage } from './reply.ts'

export function createChatReply(head: ReplyHead): ReplyFormat {
  const { id, created, model } = head
  const envelope = { id: `chatcmpl-${id}`, created, model }
  const chunkOf = (delta: object, logprobs: object | null, finish: string | null): object => ({
    ...envelope,
    object: 'chat.completion.chunk',
    choices: [{ index: 0, delta, logprobs, finish_reason: finish }],
  })
  return {
    start: () => chunkOf({ role: 'assistant', content: '', refusal: null }, null, null),
    chunk: (event) => chunkOf({ content: event.text }, toLogprobs([event]), null),
    finish: (event) => chunkOf({}, null, toFinishReason(event)),
    usage: (event) => ({
      ...envelope,
      object: 'chat.completion.chunk',
      choices: [],
      usage: toUsage(event),
    }),
    whole: (chunks, event) => wholeReply(envelope, chunks, event),
  }
}

function wholeReply(envelope: object, chunks: readonly ChunkEvent[], event: EndEvent): object {
  return {
    ...envelope,
    object: 'chat.completion',
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: joinText(chunks), refusal: null },
        logprobs: toLogprobs(chunks),
        finish_reason: toFinishReason(event),
      },
    ],
    usage: toUsage(event),
  }
}

/** null when none were asked for. */
function toLogprobs(chunks: readonly ChunkEvent[]): object | null {
  const tokens = chunks.flatMap((chunk) => chunk.logprobs ?? [])
  if (tokens.length === 0) return null
  return { content: tokens.map(toTokenLogprob), refusal: null }
}

function toTokenLogprob({ token, bytes, logprob, top }: TokenLogprobs): object {
  return { token, logprob, bytes, top_logprobs: top }
}
