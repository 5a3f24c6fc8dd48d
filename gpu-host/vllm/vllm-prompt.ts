/**
 * A request's input → prompt tokens, made by the vLLM server: its chat template, its tokenizer. The
 * answer is then asked for with those very tokens, so what is counted is what is read.
 */
import { HostError } from '../errors.ts'
import type { GenerateRequest } from '../protocol.ts'
import { assertMayFit, checkBias, checkedTokens, fitPrompt, type Prompt } from '../text/prompt.ts'
import type { TokenizeInput, VllmClient } from './vllm-client.ts'
import { serverFailed, VllmError } from './vllm-errors.ts'

export interface VllmPromptOptions {
  readonly client: Pick<VllmClient, 'tokenize'>
  /** What the server calls the base. */
  readonly model: string
  readonly vocabularySize: number
  readonly contextLength: number
}

/** Rejects with `invalid_request`, `context_length_exceeded` or `engine_failed`. */
export async function createVllmPrompt(
  { client, model, vocabularySize, contextLength }: VllmPromptOptions,
  {
    input,
    sampling,
    max_tokens: tokensMax,
  }: Pick<GenerateRequest, 'input' | 'sampling' | 'max_tokens'>,
): Promise<Prompt> {
  checkBias(sampling.logit_bias, vocabularySize)
  if (input.kind === 'tokens') {
    return fitPrompt(checkedTokens(input.tokens, vocabularySize), contextLength, tokensMax)
  }
  const asked = toTokenizeInput(input)
  assertMayFit(Buffer.byteLength(JSON.stringify(asked)), contextLength)
  try {
    const tokens = await client.tokenize(model, asked)
    return fitPrompt(Int32Array.from(tokens), contextLength, tokensMax)
  } catch (error) {
    throw toPromptError(error, input.kind === 'chat' ? 'messages' : 'prompt')
  }
}

function toTokenizeInput(
  input: Exclude<GenerateRequest['input'], { readonly kind: 'tokens' }>,
): TokenizeInput {
  return input.kind === 'chat' ? { messages: input.messages } : { prompt: input.prompt }
}

/** What the chat template refuses (roles out of order …) is the client's to change. */
function toPromptError(error: unknown, param: string): HostError {
  if (error instanceof HostError) return error
  const isRefused = error instanceof VllmError && error.failure === 'refused'
  return isRefused
    ? new HostError('invalid_request', error.message, { param })
    : serverFailed(error)
}
