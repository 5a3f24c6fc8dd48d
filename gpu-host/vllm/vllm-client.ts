/**
 * The calls that a host makes to its vLLM server: OpenAI's API, the run-time LoRA endpoints and
 * `/tokenize`. What comes back is parsed once, here. Failures are VllmErrors.
 */
import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { type CompletionDelta, readCompletion } from './completion-stream.ts'
import { VllmError } from './vllm-errors.ts'

export interface VllmClientOptions {
  readonly url: string
  readonly apiKey: string | null
  readonly fetch: typeof globalThis.fetch
  readonly clock: Clock
  /** A completion that says nothing for so long has failed. */
  readonly stallMaxMs: number
}

const CALL_TIMEOUT_MS = 10_000
/** Reads the adapter's files and copies them to every device. */
const LOAD_TIMEOUT_MS = 120_000

const modelList = z.object({
  data: z.array(
    z.object({
      id: z.string(),
      root: z.string().nullish(),
      /** Of an adapter: the model that it belongs to. */
      parent: z.string().nullish(),
      max_model_len: z.int().min(1).nullish(),
    }),
  ),
})
export type VllmModel = z.infer<typeof modelList>['data'][number]

const tokenList = z.object({ tokens: z.array(z.int().min(0)) })
const promptText = z.object({ prompt: z.string() })
const errorBody = z.object({ error: z.object({ message: z.string() }) })

export type TokenizeInput =
  | { readonly prompt: string }
  | { readonly messages: readonly object[]; readonly tools?: readonly object[] }

export class VllmClient {
  readonly #options: VllmClientOptions

  constructor(options: VllmClientOptions) {
    this.#options = options
  }

  /** The base first, then the adapters that the server has registered. */
  async models(): Promise<readonly VllmModel[]> {
    const response = await this.#call('GET', '/v1/models', null, CALL_TIMEOUT_MS)
    return parse(modelList, await response.json()).data
  }

  /** Rejects unless the server and its engine are well. */
  async assertHealthy(): Promise<void> {
    const response = await this.#call('GET', '/health', null, CALL_TIMEOUT_MS)
    await response.arrayBuffer()
  }

  async tokenize(model: string, input: TokenizeInput): Promise<readonly number[]> {
    const response = await this.#call('POST', '/tokenize', { model, ...input }, CALL_TIMEOUT_MS)
    return parse(tokenList, await response.json()).tokens
  }

  async detokenize(model: string, tokens: readonly number[]): Promise<string> {
    const response = await this.#call('POST', '/detokenize', { model, tokens }, CALL_TIMEOUT_MS)
    return parse(promptText, await response.json()).prompt
  }

  /** `path` as the server sees it. A name that it has already keeps what it names. */
  async loadLora(name: string, path: string): Promise<void> {
    try {
      const body = { lora_name: name, lora_path: path }
      const response = await this.#call('POST', '/v1/load_lora_adapter', body, LOAD_TIMEOUT_MS)
      await response.arrayBuffer()
    } catch (error) {
      const known = await this.models().catch(() => [])
      if (!known.some(({ id, root }) => id === name && root === path)) throw error
    }
  }

  /** A name that the server does not have is no failure. */
  async unloadLora(name: string): Promise<void> {
    try {
      const body = { lora_name: name }
      const response = await this.#call('POST', '/v1/unload_lora_adapter', body, CALL_TIMEOUT_MS)
      await response.arrayBuffer()
    } catch (error) {
      if (!(error instanceof VllmError) || error.failure !== 'unknown_model') throw error
    }
  }

  /** The end of the generator, or an abort, closes the stream: the server stops computing it. */
  async *complete(body: object, signal: AbortSignal): AsyncGenerator<CompletionDelta> {
    const { clock, stallMaxMs } = this.#options
    const stall = new AbortController()
    const both = AbortSignal.any([signal, stall.signal])
    let cancel = clock.setTimer(stallMaxMs, () => stall.abort())
    try {
      const response = await this.#request('POST', '/v1/completions', body, both)
      if (response.body === null) throw new VllmError('failed', 'an answer without a body')
      for await (const delta of readCompletion(response.body)) {
        cancel()
        yield delta
        cancel = clock.setTimer(stallMaxMs, () => stall.abort())
      }
    } catch (error) {
      throw toVllmError(error)
    } finally {
      cancel()
    }
  }

  async #call(
    method: 'GET' | 'POST',
    route: string,
    body: object | null,
    timeoutMs: number,
  ): Promise<Response> {
    return this.#request(method, route, body, AbortSignal.timeout(timeoutMs))
  }

  async #request(
    method: 'GET' | 'POST',
    route: string,
    body: object | null,
    signal: AbortSignal,
  ): Promise<Response> {
    const { url, apiKey, fetch } = this.#options
    try {
      const response = await fetch(url + route, {
        method,
        headers: {
          ...(body === null ? {} : { 'content-type': 'application/json' }),
          ...(apiKey === null ? {} : { authorization: `Bearer ${apiKey}` }),
        },
        body: body === null ? null : JSON.stringify(body),
        redirect: 'error',
        signal,
      })
      if (!response.ok) throw await toRefusal(response)
      return response
    } catch (error) {
      throw toVllmError(error)
    }
  }
}

async function toRefusal(response: Response): Promise<VllmError> {
  const text = await response.text()
  const told = messageOf(text)
  const message = told ?? text.slice(0, 200)
  const { status } = response
  if (status === 404 && told !== null) return new VllmError('unknown_model', message)
  // A key that is wrong or a server that is busy is nothing that another wording would change.
  const isCallAtFault = status === 400 || status === 413 || status === 422
  return new VllmError(isCallAtFault ? 'refused' : 'failed', `vLLM answered ${status}: ${message}`)
}

function messageOf(text: string): string | null {
  try {
    return errorBody.parse(JSON.parse(text)).error.message
  } catch {
    return null
  }
}

function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  throw new VllmError('failed', `vLLM answered something else: ${parsed.error.issues[0]?.message}`)
}

function toVllmError(error: unknown): VllmError {
  if (error instanceof VllmError) return error
  return new VllmError('unreachable', 'the vLLM server does not answer', { cause: error })
}
