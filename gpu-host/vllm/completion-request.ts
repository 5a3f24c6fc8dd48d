/**
 * Pure: one choice of a request → the body of a completion. The prompt goes as tokens, which the
 * server made before; every sampling field has its counterpart. Nothing of the server's prefix
 * cache is shared but within one tenant, one base and one adapter: its key is salted with them.
 */
import type { GenerateRequest } from '../protocol.ts'
import type { Prompt } from '../text/prompt.ts'

export interface CompletionInput {
  readonly request: Pick<
    GenerateRequest,
    'input' | 'sampling' | 'stop' | 'ignore_eos' | 'logprobs' | 'top_logprobs'
  >
  readonly prompt: Prompt
  readonly seed: number
  /** Of the server's prefix cache: kvSalt. */
  readonly salt: string
  /** What the server calls the base, or the adapter. */
  readonly model: string
}

export function toCompletionBody(input: CompletionInput): object {
  const { request, prompt, seed, salt, model } = input
  const { sampling } = request
  return {
    model,
    prompt: [...prompt.tokens],
    max_tokens: prompt.completionTokensMax,
    temperature: sampling.temperature,
    top_p: sampling.top_p,
    top_k: sampling.top_k,
    min_p: sampling.min_p,
    frequency_penalty: sampling.frequency_penalty,
    presence_penalty: sampling.presence_penalty,
    repetition_penalty: sampling.repetition_penalty,
    logit_bias: sampling.logit_bias,
    seed,
    stop: request.stop,
    ignore_eos: request.ignore_eos,
    ...(sampling.grammar === null ? {} : { structured_outputs: { grammar: sampling.grammar } }),
    // The marks of a call are special tokens of some models.
    ...(isWithTools(request.input) ? { skip_special_tokens: false } : {}),
    ...(request.logprobs ? { logprobs: request.top_logprobs } : {}),
    cache_salt: salt,
    stream: true,
    stream_options: { include_usage: true, continuous_usage_stats: true },
  }
}

function isWithTools(input: GenerateRequest['input']): boolean {
  return input.kind === 'chat' && input.tools !== undefined
}
