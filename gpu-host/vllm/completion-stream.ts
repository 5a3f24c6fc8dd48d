/**
 * The stream that answers a completion of one choice → what each of its events adds. Tokens are
 * the server's own count: with `continuous_usage_stats` every event carries the sum so far.
 */
import { EventSourceParserStream } from 'eventsource-parser/stream'
import { z } from 'zod'
import type { TokenLogprobs } from '../protocol.ts'
import { VllmError } from './vllm-errors.ts'

export interface CompletionDelta {
  readonly text: string
  /** Drawn since the delta before. */
  readonly tokens: number
  /** Of those tokens; null = not told. */
  readonly logprobs: readonly TokenLogprobs[] | null
  readonly promptTokens: number
  /** Known at the very end alone, and only if the server is told to say it. */
  readonly cachedTokens: number | null
  /** Set on the last delta. */
  readonly finish: 'stop' | 'length' | null
  /** The last token ended the answer, and is no part of it: no stop string did. */
  readonly isEndToken: boolean
}

/** Told within the stream, where the answer had begun before the engine looked at the request. */
const BAD_REQUEST = 400

const count = z.int().min(0)
const usage = z.object({
  prompt_tokens: count,
  completion_tokens: count.nullish(),
  prompt_tokens_details: z.object({ cached_tokens: count.nullish() }).nullish(),
})
const logprobs = z.object({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number().nullable()),
  top_logprobs: z.array(z.record(z.string(), z.number()).nullable()).nullish(),
})
const event = z.union([
  z.object({ error: z.object({ message: z.string(), code: z.int().nullish() }) }),
  z.object({
    choices: z
      .array(
        z.object({
          text: z.string(),
          finish_reason: z.string().nullish(),
          /** The stop string or token that ended it; null for the model's own end. */
          stop_reason: z.union([z.string(), z.int()]).nullish(),
          logprobs: logprobs.nullish(),
        }),
      )
      .max(1),
    usage: usage.nullish(),
  }),
])

/**
 * The last delta has `finish` set, and comes when the stream has told all. Throws VllmError where
 * the stream breaks off or tells of an error, where it does not count, and where it ends for a
 * reason that is nobody's wish.
 */
export async function* readCompletion(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<CompletionDelta> {
  const events = body
    .pipeThrough(new TextDecoderStream())
    .pipeThrough(new EventSourceParserStream())
  let completionTokens = 0
  let last: CompletionDelta | null = null
  for await (const { data } of events) {
    if (data === '[DONE]') {
      if (last === null) throw new VllmError('failed', 'vLLM did not say how the answer ended')
      yield last
      return
    }
    const delta = toDelta(data, completionTokens)
    completionTokens += delta.tokens
    // What the prefix cache had is told after the end.
    if (last !== null) last = join(last, delta)
    else if (delta.finish !== null) last = delta
    else yield delta
  }
  throw new VllmError('unreachable', 'the stream of vLLM broke off')
}

function join(last: CompletionDelta, { tokens, cachedTokens }: CompletionDelta): CompletionDelta {
  return { ...last, tokens: last.tokens + tokens, cachedTokens: cachedTokens ?? last.cachedTokens }
}

function toDelta(data: string, completionTokens: number): CompletionDelta {
  const parsed = event.safeParse(parseJson(data))
  if (!parsed.success) throw new VllmError('failed', 'vLLM sent an event of another form')
  if ('error' in parsed.data) {
    const { message, code } = parsed.data.error
    throw new VllmError(code === BAD_REQUEST ? 'refused' : 'failed', message)
  }
  const { choices, usage: told } = parsed.data
  const [choice] = choices
  if (told == null) throw new VllmError('failed', 'vLLM does not count the tokens of its events')
  const tokens = (told.completion_tokens ?? 0) - completionTokens
  if (tokens < 0) throw new VllmError('failed', 'vLLM took tokens back')
  return {
    text: choice?.text ?? '',
    tokens,
    logprobs: choice?.logprobs ? toLogprobs(choice.logprobs) : null,
    promptTokens: told.prompt_tokens,
    cachedTokens: told.prompt_tokens_details?.cached_tokens ?? null,
    finish: toFinish(choice?.finish_reason ?? null),
    isEndToken: choice?.finish_reason === 'stop' && choice.stop_reason == null,
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

function toFinish(reason: string | null): CompletionDelta['finish'] {
  if (reason === null || reason === 'stop' || reason === 'length') return reason
  throw new VllmError('failed', `vLLM ended the answer: ${reason}`)
}

function toLogprobs(told: z.infer<typeof logprobs>): TokenLogprobs[] {
  return told.tokens.map((token, index) => ({
    ...toEntry(token, told.token_logprobs[index] ?? 0),
    top: Object.entries(told.top_logprobs?.[index] ?? {}).map(([text, logprob]) =>
      toEntry(text, logprob),
    ),
  }))
}

/** vLLM tells the text of a token, so its bytes are those of that text. */
function toEntry(token: string, logprob: number): Omit<TokenLogprobs, 'top'> {
  return { token, bytes: [...new TextEncoder().encode(token)], logprob }
}
