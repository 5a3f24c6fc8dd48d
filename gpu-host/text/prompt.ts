/**
 * A request's input → prompt tokens, and the number of tokens it may generate. Refuses what cannot
 * fit, and tokens that do not exist, before any engine resource is taken.
 */
import type { Engine } from '../engine.ts'
import { HostError } from '../errors.ts'
import type { GenerateRequest } from '../protocol.ts'
import type { RenderChat } from './chat-template.ts'

/** No tokenizer packs more text than this into a token on average, so longer text cannot fit. */
const BYTES_PER_TOKEN_MAX = 128

export interface Prompt {
  readonly tokens: Int32Array
  /** Tokens that may be generated, ≥ 1: the request's own limit, cut at the end of the context. */
  readonly completionTokensMax: number
}

type PromptEngine = Pick<Engine, 'info' | 'limits' | 'tokenize'>

/** Throws `invalid_request` or `context_length_exceeded`, naming the numbers. */
export function createPrompt(
  engine: PromptEngine,
  renderChat: RenderChat,
  request: Pick<GenerateRequest, 'input' | 'max_tokens' | 'sampling'>,
): Prompt {
  checkBias(request.sampling.logit_bias, engine.info.vocabularySize)
  const tokens = toTokens(engine, renderChat, request.input)
  return fitPrompt(tokens, engine.limits.contextLength, request.max_tokens)
}

/** Throws `invalid_request` or `context_length_exceeded`. `tokensMax` null = as many as fit. */
export function fitPrompt(
  tokens: Int32Array,
  contextLength: number,
  tokensMax: number | null,
): Prompt {
  if (tokens.length === 0) {
    throw new HostError('invalid_request', 'the prompt is empty', { param: 'prompt' })
  }
  if (tokens.length >= contextLength)
    throw contextExceeded(contextLength, `${tokens.length} tokens`)
  const room = contextLength - tokens.length
  return { tokens, completionTokensMax: Math.min(tokensMax ?? room, room) }
}

function toTokens(
  engine: PromptEngine,
  renderChat: RenderChat,
  input: GenerateRequest['input'],
): Int32Array {
  if (input.kind === 'tokens') return checkedTokens(input.tokens, engine.info.vocabularySize)
  const text = input.kind === 'chat' ? renderChat(input) : input.prompt
  assertMayFit(Buffer.byteLength(text), engine.limits.contextLength)
  const tokens = engine.tokenize(text, { addSpecial: true, parseSpecial: true })
  // A template that writes the first token and a tokenizer that adds it would make two of it.
  const { bosToken } = engine.info
  const isDoubled = bosToken !== null && tokens[0] === bosToken && tokens[1] === bosToken
  return isDoubled ? tokens.subarray(1) : tokens
}

/** Throws `context_length_exceeded` for text that need not be tokenised to know. */
export function assertMayFit(textBytes: number, contextLength: number): void {
  if (textBytes <= contextLength * BYTES_PER_TOKEN_MAX) return
  throw contextExceeded(contextLength, `${textBytes} bytes of text`)
}

/** Throws `invalid_request` for a token that does not exist. */
export function checkedTokens(tokens: readonly number[], vocabularySize: number): Int32Array {
  const bad = tokens.findIndex((token) => token >= vocabularySize)
  if (bad >= 0) {
    throw new HostError(
      'invalid_request',
      `token ${tokens[bad]} at index ${bad} is outside the vocabulary of ${vocabularySize}`,
      { param: 'prompt' },
    )
  }
  return Int32Array.from(tokens)
}

/** Throws `invalid_request` for a bias on a token that does not exist. */
export function checkBias(bias: Readonly<Record<string, number>>, vocabularySize: number): void {
  const bad = Object.keys(bias).find((token) => Number(token) >= vocabularySize)
  if (bad === undefined) return
  const message = `logit_bias: token ${bad} is outside the vocabulary of ${vocabularySize}`
  throw new HostError('invalid_request', message, { param: `logit_bias.${bad}` })
}

function contextExceeded(contextLength: number, size: string): HostError {
  return new HostError(
    'context_length_exceeded',
    `the context holds ${contextLength} tokens, prompt and completion together; ` +
      `the prompt alone is ${size}`,
    { param: 'messages' },
  )
}
