/**
 * A vLLM server without a model: its routes, refusals, events and counts are those that vLLM 0.32
 * was seen to answer with (bench/vllm/ runs the real one). What it draws is a hash of the adapter's
 * weights and of every token before, so a wrong adapter, prompt or token shows. Strict: it refuses
 * what it does not know.
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import { z } from 'zod'

export const FAKE_MODEL = 'served-base'
export const FAKE_CONTEXT = 200
export const FAKE_VOCABULARY = 300
const END_TOKEN = 1
const WORDS = ['ab', ' c', 'de', ' f', 'gh', 'i', ' jk', 'l'] as const

const completion = z.strictObject({
  model: z.string(),
  prompt: z.array(z.int().min(0)).min(1),
  max_tokens: z.int().min(1),
  temperature: z.number(),
  top_p: z.number(),
  top_k: z.int(),
  min_p: z.number(),
  frequency_penalty: z.number(),
  presence_penalty: z.number(),
  repetition_penalty: z.number(),
  logit_bias: z.record(z.string(), z.number()),
  seed: z.int(),
  stop: z.array(z.string()),
  ignore_eos: z.boolean(),
  skip_special_tokens: z.literal(false).optional(),
  structured_outputs: z.strictObject({ grammar: z.string() }).optional(),
  logprobs: z.int().min(0).max(20).optional(),
  cache_salt: z.string().min(1),
  stream: z.literal(true),
  stream_options: z.strictObject({
    include_usage: z.literal(true),
    continuous_usage_stats: z.literal(true),
  }),
})
export type FakeCompletion = z.infer<typeof completion>
const named = z.looseObject({ name: z.string() })
const message = z.object({
  role: z.string(),
  content: z.string(),
  tool_calls: z
    .array(
      z.strictObject({
        id: z.string(),
        type: z.literal('function'),
        function: named.extend({ arguments: z.string() }),
      }),
    )
    .optional(),
})
const tokenize = z.union([
  z.strictObject({ model: z.string(), prompt: z.string() }),
  z.strictObject({
    model: z.string(),
    messages: z.array(message),
    tools: z.array(z.strictObject({ type: z.literal('function'), function: named })).optional(),
  }),
])
const detokenize = z.strictObject({ model: z.string(), tokens: z.array(z.int().min(2)) })
const loadBody = z.strictObject({ lora_name: z.string().min(1), lora_path: z.string().min(1) })
const unloadBody = z.strictObject({ lora_name: z.string().min(1) })

export class FakeVllm {
  /** Completions that it was asked for, and those whose client left before their end. */
  readonly asked: FakeCompletion[] = []
  aborted = 0
  /** Calls to load and unload, as `load <name>`. */
  readonly calls: string[] = []
  /** Whether its chat template shows tools; one that does not leaves them out. */
  knowsTools = true
  /** Awaited before each token. */
  beforeToken: (index: number, body: FakeCompletion) => Promise<void> | void = () => {}
  #server: Server | null = null
  #port = 0
  /** Name → path and hash of the weights. */
  readonly #loras = new Map<string, { readonly path: string; readonly weights: string }>()

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  get loras(): string[] {
    return [...this.#loras.keys()]
  }

  /** At the port that it had before, with nothing loaded. */
  async start(): Promise<void> {
    this.#loras.clear()
    const server = createServer((request, response) => {
      this.#answer(request, response).catch(() => response.destroy())
    })
    server.listen(this.#port, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    this.#port = typeof address === 'object' && address !== null ? address.port : 0
    this.#server = server
  }

  /** As when its process is killed: connections break, nobody listens. */
  async kill(): Promise<void> {
    const server = this.#server
    if (server === null) return
    this.#server = null
    const closed = once(server, 'close')
    server.close()
    server.closeAllConnections()
    await closed
  }

  /** Tokens and text that a request gets when it is let run; `weights` null = the base. */
  expected(body: Pick<FakeCompletion, 'prompt' | 'seed' | 'max_tokens'>, weights: string | null) {
    return draw(body, weights)
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const route = `${request.method} ${request.url}`
    const body = await readJson(request)
    switch (route) {
      case 'GET /health':
        return void response.writeHead(200).end()
      case 'GET /v1/models':
        return reply(response, 200, { object: 'list', data: this.#models() })
      case 'POST /tokenize':
        return this.#tokenize(response, tokenize.parse(body))
      case 'POST /detokenize':
        return reply(response, 200, { prompt: fakeText(detokenize.parse(body).tokens) })
      case 'POST /v1/load_lora_adapter':
        return this.#load(response, loadBody.parse(body))
      case 'POST /v1/unload_lora_adapter':
        return this.#unload(response, unloadBody.parse(body))
      case 'POST /v1/completions':
        return this.#complete(response, completion.parse(body))
      default:
        return reply(response, 404, { detail: 'Not Found' })
    }
  }

  #models(): object[] {
    const base = { id: FAKE_MODEL, root: '/models/base', parent: null }
    const loras = Array.from(this.#loras, ([id, { path }]) => {
      return { id, object: 'model', root: path, parent: FAKE_MODEL, max_model_len: null }
    })
    return [{ ...base, object: 'model', max_model_len: FAKE_CONTEXT }, ...loras]
  }

  #tokenize(response: ServerResponse, body: z.infer<typeof tokenize>): void {
    const isLate = 'messages' in body && body.messages.at(-1)?.role === 'assistant'
    if (body.model !== FAKE_MODEL) unknownModel(response, body.model)
    else if (isLate) refuse(response, 400, 'roles must alternate', 'BadRequestError')
    else {
      const text = 'prompt' in body ? body.prompt : this.#render(body)
      const tokens = fakeTokens(text)
      reply(response, 200, { count: tokens.length, max_model_len: FAKE_CONTEXT, tokens })
    }
  }

  #render({ messages, tools = [] }: Pick<FakeChat, 'messages' | 'tools'>): string {
    return renderFake(messages, this.knowsTools ? tools : [])
  }

  #load(response: ServerResponse, { lora_name: name, lora_path: path }: z.infer<typeof loadBody>) {
    this.calls.push(`load ${name}`)
    if (this.#loras.has(name)) {
      const text = `The lora adapter '${name}' has already been loaded.`
      return refuse(response, 400, text, 'InvalidUserInput')
    }
    try {
      JSON.parse(readFileSync(join(path, 'adapter_config.json'), 'utf8'))
      const weights = sha256(readFileSync(join(path, 'adapter_model.safetensors')))
      this.#loras.set(name, { path, weights })
    } catch {
      const text = `Loading lora ${name} failed: No adapter found for <path>`
      return refuse(response, 404, text, 'NotFoundError')
    }
    response.writeHead(200).end(`Success: LoRA adapter '${name}' added successfully.`)
  }

  #unload(response: ServerResponse, { lora_name: name }: z.infer<typeof unloadBody>): void {
    this.calls.push(`unload ${name}`)
    if (this.#loras.delete(name)) {
      response.writeHead(200).end(`Success: LoRA adapter '${name}' removed successfully.`)
    } else {
      refuse(response, 404, `The lora adapter '${name}' cannot be found.`, 'NotFoundError')
    }
  }

  async #complete(response: ServerResponse, body: FakeCompletion): Promise<void> {
    const weights = body.model === FAKE_MODEL ? null : this.#loras.get(body.model)?.weights
    if (weights === undefined) return unknownModel(response, body.model)
    if (body.prompt.length + body.max_tokens > FAKE_CONTEXT) {
      return refuse(response, 400, 'max_tokens is too large', 'BadRequestError')
    }
    this.asked.push(body)
    response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' })
    const grammar = body.structured_outputs?.grammar
    if (grammar !== undefined && !grammar.includes('::=')) {
      const message = 'Invalid grammar specification'
      event(response, { error: { message, type: 'BadRequestError', param: null, code: 400 } })
      return void response.end('data: [DONE]\n\n')
    }
    let isLeft = false
    response.on('close', () => {
      isLeft = !response.writableFinished
      if (isLeft) this.aborted += 1
    })
    for (const [index, step] of draw(body, weights).entries()) {
      await this.beforeToken(index, body)
      if (isLeft || this.#server === null) return
      event(response, { choices: [step.choice], usage: step.usage })
    }
    const last = draw(body, weights).at(-1)?.usage
    const details = { prompt_tokens_details: { cached_tokens: body.prompt.length - 1 } }
    event(response, { choices: [], usage: { ...last, ...details } })
    response.end('data: [DONE]\n\n')
  }
}

/** A token for each byte. */
export function fakeTokens(text: string): number[] {
  return [...Buffer.from(text)].map((byte) => byte + 2)
}

function fakeText(tokens: readonly number[]): string {
  return Buffer.from(tokens.map((token) => token - 2)).toString()
}

type FakeChat = Extract<z.infer<typeof tokenize>, { messages: unknown }>

export function renderFake(
  messages: FakeChat['messages'],
  tools: NonNullable<FakeChat['tools']> = [],
): string {
  const turns = messages.map(({ role, content, tool_calls: calls = [] }) => {
    const written = calls.map(({ function: { name, arguments: given } }) => {
      return `<tool_call>{"name": "${name}", "arguments": ${given}}</tool_call>`
    })
    return `${role}: ${content}${written.join('')}\n`
  })
  return `${tools.map((tool) => `${JSON.stringify(tool)}\n`).join('')}${turns.join('')}assistant:`
}

function sha256(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex')
}

type DrawInput = Pick<FakeCompletion, 'prompt' | 'seed' | 'max_tokens'> &
  Partial<Pick<FakeCompletion, 'stop' | 'ignore_eos' | 'logprobs'>>

/** What a completion's events carry, one a token, with stop strings held back as vLLM does. */
function draw(body: DrawInput, weights: string | null) {
  const { prompt, seed, max_tokens: tokensMax, stop = [], ignore_eos: ignoresEnd = false } = body
  const holdBack = Math.max(0, ...stop.map((each) => each.length - 1))
  const steps = []
  let state = sha256(`${weights} ${seed} ${prompt}`)
  let text = ''
  let shown = 0
  for (let count = 1; ; count += 1) {
    state = sha256(state)
    const number = Number.parseInt(state.slice(0, 8), 16)
    const isEnd = !ignoresEnd && number % 64 === END_TOKEN
    const word = isEnd ? '' : (WORDS[number % WORDS.length] ?? '')
    text += word
    const stopped = stop.find((each) => text.includes(each)) ?? null
    if (stopped !== null) text = text.slice(0, text.indexOf(stopped))
    const isLast = isEnd || stopped !== null || count === tokensMax
    const until = isLast ? text.length : Math.max(shown, text.length - holdBack)
    const told = isEnd ? '</s>' : word
    const logprobs = {
      tokens: [told],
      token_logprobs: [-0.5],
      top_logprobs: [{ zz: -2, [told]: -0.5 }],
    }
    steps.push({
      choice: {
        index: 0,
        text: text.slice(shown, until),
        logprobs: body.logprobs === undefined ? null : logprobs,
        finish_reason: isLast ? (isEnd || stopped !== null ? 'stop' : 'length') : null,
        stop_reason: stopped,
      },
      usage: {
        prompt_tokens: prompt.length,
        total_tokens: prompt.length + count,
        completion_tokens: count,
      },
    })
    shown = until
    if (isLast) return steps
  }
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  return chunks.length === 0 ? null : JSON.parse(Buffer.concat(chunks).toString())
}

function event(response: ServerResponse, value: object): void {
  response.write(`data: ${JSON.stringify(value)}\n\n`)
}

function reply(response: ServerResponse, status: number, value: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value))
}

function refuse(response: ServerResponse, status: number, message: string, type: string): void {
  reply(response, status, { error: { message, type, param: null, code: status } })
}

function unknownModel(response: ServerResponse, model: string): void {
  refuse(response, 404, `The model \`${model}\` does not exist.`, 'NotFoundError')
}
