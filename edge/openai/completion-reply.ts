/** Replies of legacy completions, whole and in chunks; both have the same object name. */
import type { ChunkEvent } from '#protocol'
import { type ReplyFormat, type ReplyHead, toChoices, toTokens, toUsage } from './reply.ts'

export function createCompletionReply(head: ReplyHead): ReplyFormat {
  const { id, created, model } = head
  const envelope = { id: `cmpl-${id}`, object: 'text_completion', created, model }
  /** Where the next token's text begins, by choice. */
  const offsets = new Array<number>(head.choices).fill(0)
  const choiceOf = (index: number, chunks: readonly ChunkEvent[], rest: object): object => {
    const text = chunks.map((chunk) => chunk.text).join('')
    const logprobs = toLogprobs(chunks, offsets[index] ?? 0)
    if (logprobs !== null) offsets[index] = logprobs.end
    return { index, text, logprobs: logprobs?.columns ?? null, finish_reason: null, ...rest }
  }
  return {
    start: () => [],
    chunk: (event) =>
      isSilent(event) ? [] : [{ ...envelope, choices: [choiceOf(event.choice, [event], {})] }],
    finish: (event) => ({
      ...envelope,
      choices: [choiceOf(event.choice, [], { finish_reason: event.finish_reason })],
    }),
    usage: (event) => ({ ...envelope, choices: [], usage: toUsage(event) }),
    whole: (chunks, event) => ({
      ...envelope,
      choices: toChoices(chunks, head.choices).map(({ index, chunks: own, finish }) =>
        choiceOf(index, own, { finish_reason: finish }),
      ),
      usage: toUsage(event),
    }),
  }
}

/** A token that completes no character yet, or whose text a stop string may hide. */
function isSilent({ text, logprobs }: ChunkEvent): boolean {
  return text === '' && (logprobs ?? []).length === 0
}

/** Parallel arrays, one entry a token; null when none were asked for. */
function toLogprobs(
  chunks: readonly ChunkEvent[],
  begin: number,
): { readonly columns: object; readonly end: number } | null {
  const tokens = toTokens(chunks)
  if (tokens === null) return null
  let end = begin
  const textOffsets = tokens.map(({ token }) => {
    const at = end
    end += token.length
    return at
  })
  const columns = {
    tokens: tokens.map(({ token }) => token),
    token_logprobs: tokens.map(({ logprob }) => logprob),
    top_logprobs: tokens.map(({ top }) =>
      Object.fromEntries(top.map(({ token, logprob }) => [token, logprob])),
    ),
    text_offset: textOffsets,
  }
  return { columns, end }
}
