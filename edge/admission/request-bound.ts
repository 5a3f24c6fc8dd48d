/**
 * The most that a request can use, before anything is known of it but its body. A token stands for
 * a byte of the prompt at least, or for a piece of the chat template; no completion outgrows its
 * limit or the context. Pure.
 */
import type { GenerateRequest } from '#protocol'

/** What a chat template adds: a start, a default system message, and marks around each message. */
const TEMPLATE_TOKENS = 256
const MESSAGE_TOKENS = 32

export interface TokenBound {
  readonly promptTokens: number
  /** Of all choices together. */
  readonly completionTokens: number
}

const encoder = new TextEncoder()

/** @param contextLength of the base model, in tokens. */
export function tokenBound(
  request: Pick<GenerateRequest, 'input' | 'n' | 'max_tokens'>,
  contextLength: number,
): TokenBound {
  const { input, n, max_tokens } = request
  const completion = Math.min(max_tokens ?? contextLength, contextLength)
  return {
    promptTokens: Math.min(promptBound(input), contextLength),
    completionTokens: n * completion,
  }
}

function promptBound(input: GenerateRequest['input']): number {
  if (input.kind === 'tokens') return input.tokens.length
  if (input.kind === 'text') return encoder.encode(input.prompt).length + TEMPLATE_TOKENS
  return input.messages.reduce((sum, { role, content, name }) => {
    const texts = role.length + encoder.encode(content).length + (name ? name.length * 4 : 0)
    return sum + texts + MESSAGE_TOKENS
  }, TEMPLATE_TOKENS)
}
