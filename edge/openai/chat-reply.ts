/** Replies of chat/completions, whole and in chunks. */
import type { ChunkEvent, TokenLogprobs } from '#protocol'
import { type ReplyFormat, type ReplyHead, toChoices, toTokens, toUsage } from './reply.ts'
import { ToolCallReader } from './tools/tool-call-reader.ts'

export function createChatReply(head: ReplyHead): ReplyFormat {
  const { id, created, model } = head
  const tier = head.withTier ? { service_tier: 'default' } : {}
  const envelope = { id: `chatcmpl-${id}`, created, model, ...tier }
  const chunkOf = (index: number, delta: object, rest: object = {}): object => ({
    ...envelope,
    object: 'chat.completion.chunk',
    choices: [{ index, delta, logprobs: null, finish_reason: null, ...rest }],
  })
  const answers = Array.from(
    { length: head.choices },
    (_, index) => new Answer(`${id}_${index}`, head.callable),
  )
  return {
    start: () =>
      answers.map((_, index) => chunkOf(index, { role: 'assistant', content: '', refusal: null })),
    chunk: (event) => {
      const deltas = answers[event.choice]?.take(event).map(toDelta) ?? []
      if (deltas.length === 0 && (event.logprobs ?? []).length === 0) return []
      const [first = { content: '' }, ...others] = deltas
      return [
        chunkOf(event.choice, first, { logprobs: toLogprobs([event]) }),
        ...others.map((delta) => chunkOf(event.choice, delta)),
      ]
    },
    finish: (event) =>
      chunkOf(event.choice, {}, { finish_reason: answers[event.choice]?.toFinish(event) }),
    usage: (event) => ({
      ...envelope,
      object: 'chat.completion.chunk',
      choices: [],
      usage: toUsage(event),
    }),
    whole: (chunks, event) => ({
      ...envelope,
      object: 'chat.completion',
      choices: toChoices(chunks, head.choices).map(({ index, text, chunks: own, finish }) => {
        const all = { text, finish_reason: finish }
        return {
          index,
          message: toMessage(answers[index]?.take(all) ?? []),
          logprobs: toLogprobs(own),
          finish_reason: answers[index]?.toFinish(all),
        }
      }),
      usage: toUsage(event),
    }),
  }
}

type AnswerPart =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'call'; readonly index: number; readonly call: object }

/** One choice, as far as it has come. */
class Answer {
  readonly #id: string
  readonly #reader: ToolCallReader | null
  #calls = 0

  /** @param id of its own, from which its calls have theirs. */
  constructor(id: string, callable: ReplyHead['callable']) {
    this.#id = id
    this.#reader = callable === null ? null : new ToolCallReader(callable)
  }

  /** What a chunk adds. */
  take(chunk: Pick<ChunkEvent, 'text' | 'finish_reason'>): AnswerPart[] {
    return this.#read(chunk).map((piece) => {
      if (piece.kind === 'text') return piece
      const index = this.#calls
      this.#calls += 1
      const call = { id: `call_${this.#id}_${index}`, type: 'function', function: piece.call }
      return { kind: 'call', index, call }
    })
  }

  toFinish({ finish_reason: reason }: Pick<ChunkEvent, 'finish_reason'>): string | null {
    return reason === 'stop' && this.#calls > 0 ? 'tool_calls' : reason
  }

  #read({ text, finish_reason: finish }: Pick<ChunkEvent, 'text' | 'finish_reason'>) {
    if (this.#reader === null) return text === '' ? [] : [{ kind: 'text' as const, text }]
    const pieces = this.#reader.take(text)
    return finish === null ? pieces : [...pieces, ...this.#reader.end()]
  }
}

function toDelta(part: AnswerPart): object {
  if (part.kind === 'text') return { content: part.text }
  return { tool_calls: [{ index: part.index, ...part.call }] }
}

/** Of all parts: an answer that is nothing but calls has no content. */
function toMessage(parts: readonly AnswerPart[]): object {
  const text = parts.map((part) => (part.kind === 'text' ? part.text : '')).join('')
  const calls = parts.flatMap((part) => (part.kind === 'call' ? [part.call] : []))
  return {
    role: 'assistant',
    content: calls.length > 0 && text === '' ? null : text,
    refusal: null,
    ...(calls.length > 0 && { tool_calls: calls }),
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
