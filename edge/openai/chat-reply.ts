/** Replies of chat/completions, whole and in chunks. */
import type { ChunkEvent, TokenLogprobs } from '#protocol'
import { type ReplyFormat, type ReplyHead, toChoices, toTokens, toUsage } from './reply.ts'

export function createChatReply(head: ReplyHead): ReplyFormat {
  const { id, created, model } = head
  const tier = head.withTier ? { service_tier: 'default' } : {}
  const envelope = { id: `chatcmpl-${id}`, created, model, ...tier }
  const chunkOf = (index: number, delta: object, rest: object = {}): object => ({
    ...envelope,
    object: 'chat.completion.chunk',
    choices: [{ index, delta, logprobs: null, finish_reason: null, ...rest }],
  })
  return {
    start: () =>
      Array.from({ length: head.choices }, (_, index) =>
        chunkOf(index, { role: 'assistant', content: '', refusal: null }),
      ),
    chunk: (event) =>
      chunkOf(event.choice, { content: event.text }, { logprobs: toLogprobs([event]) }),
    finish: (event) => chunkOf(event.choice, {}, { finish_reason: event.finish_reason }),
    usage: (event) => ({
      ...envelope,
      object: 'chat.completion.chunk',
      choices: [],
      usage: toUsage(event),
    }),
    whole: (chunks, event) => ({
      ...envelope,
      object: 'chat.completion',
      choices: toChoices(chunks, head.choices).map(({ index, text, chunks: own, finish }) => ({
        index,
        message: { role: 'assistant', content: text, refusal: null },
        logprobs: toLogprobs(own),
        finish_reason: finish,
      })),
      usage: toUsage(event),
    }),
  }
}

/** null when none were asked for. */
function toLogprobs(chunks: readonly ChunkEvent[]): object | null {
  const tokens = toTokens(chunks)
  if (tokens === null) return null
  return { content: tokens.map(toTokenLogprob), refusal: null }
}

function toTokenLogprob({ token, bytes, logprob, top }: TokenLogprobs): object {
  return { token, logprob, bytes, top_logprobs: top }
}
