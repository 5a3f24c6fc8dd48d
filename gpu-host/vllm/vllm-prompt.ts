/**
 * A request's input → prompt tokens, made by the vLLM server: its chat template, its tokenizer. The
 * answer is then asked for with those very tokens, so what is counted is what is read.
 */
import { HostError } from '../errors.ts'
import type { GenerateRequest } from '../protocol.ts'
import { toTemplateTool } from '../text/chat-template.ts'
import { assertMayFit, checkBias, checkedTokens, fitPrompt, type Prompt } from '../text/prompt.ts'
import { noTools, toolField } from '../text/tool-probe.ts'
import type { ChatMessage } from '../wire/chat-input.ts'
import type { TokenizeInput, VllmClient } from './vllm-client.ts'
import { serverFailed, VllmError } from './vllm-errors.ts'

export interface VllmPromptOptions {
  readonly client: Pick<VllmClient, 'tokenize'>
  /** Whether the server's chat template knows tools. */
  readonly tools: { areKnown(): Promise<boolean> }
  /** What the server calls the base. */
  readonly model: string
  readonly vocabularySize: number
  readonly contextLength: number
}

/** Rejects with `invalid_request`, `context_length_exceeded` or `engine_failed`. */
export async function createVllmPrompt(
  { client, tools, model, vocabularySize, contextLength }: VllmPromptOptions,
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
  const toolsAt = input.kind === 'chat' ? toolField(input) : null
  try {
    if (toolsAt !== null && !(await tools.areKnown())) throw noTools(toolsAt)
    const tokens = await client.tokenize(model, asked)
    return fitPrompt(Int32Array.from(tokens), contextLength, tokensMax)
  } catch (error) {
    throw toPromptError(error, input.kind === 'chat' ? 'messages' : 'prompt')
  }
}

export function toTokenizeInput(
  input: Exclude<GenerateRequest['input'], { readonly kind: 'tokens' }>,
): TokenizeInput {
  if (input.kind === 'text') return { prompt: input.prompt }
  const { messages, tools } = input
  return {
    messages: messages.map(toMessage),
    ...(tools !== undefined && { tools: tools.map(toTemplateTool) }),
  }
}

function toMessage({ tool_calls: calls, ...message }: ChatMessage): object {
  if (calls === undefined) return message
  const toCall = ({ id, ...named }: (typeof calls)[number]) => {
    return { id, type: 'function', function: named }
  }
  return { ...message, tool_calls: calls.map(toCall) }
}

/** What the chat template refuses (roles out of order …) is the client's to change. */
function toPromptError(error: unknown, param: string): HostError {
  if (error instanceof HostError) return error
  const isRefused = error instanceof VllmError && error.failure === 'refused'
  return isRefused
    ? new HostError('invalid_request', error.message, { param })
    : serverFailed(error)
}
