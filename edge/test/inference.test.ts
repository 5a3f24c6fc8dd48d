import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { choiceSeed } from '../../gpu-host/scheduler/sequence.ts'
import { expectedTokens } from '../../gpu-host/test/support/fake-engine.ts'
import type { TestTenant } from './support/pool-client.ts'
import { expectedReply, promptTokens, TestPool, until } from './support/test-pool.ts'

let pool: TestPool
let tenant: TestTenant
let other: TestTenant
beforeAll(async () => {
  pool = await TestPool.start()
  await pool.addHost()
  tenant = await pool.addTenant()
  other = await pool.addTenant()
  await pool.deploy(tenant, 'support', 'weights of version 1')
  await pool.deploy(tenant, 'support', 'weights of version 2')
  await pool.deploy(other, 'secret', 'weights of another tenant')
})
afterAll(() => pool.stop())

const messages = [{ role: 'user', content: 'hello' }] as const
const chat = (extra: object = {}) => ({
  model: 'support',
  messages: [...messages],
  max_tokens: 12,
  temperature: 0,
  ...extra,
})

async function failureOf(promise: Promise<unknown>): Promise<InstanceType<typeof OpenAI.APIError>> {
  const error = await promise.then(
    () => new Error('it succeeded'),
    (thrown: unknown) => thrown,
  )
  if (error instanceof OpenAI.APIError) return error
  throw error
}

describe('chat completions through the official SDK', () => {
  it("serves a model's own endpoint, by its newest version, with exact usage", async () => {
    const sdk = pool.sdk(tenant.key, `/${tenant.name}/support/v1`)
    const { data, request_id } = await sdk.chat.completions.create(chat()).withResponse()
    const prompt = promptTokens('hello')
    expect(data).toEqual({
      id: expect.stringMatching(/^chatcmpl-.{10,}$/),
      object: 'chat.completion',
      created: expect.any(Number),
      model: 'support',
      choices: [
        {
          index: 0,
          message: {
            role: 'assistant',
            content: expectedReply('weights of version 2', 'hello', 12),
            refusal: null,
          },
          logprobs: null,
          finish_reason: 'length',
        },
      ],
      usage: {
        prompt_tokens: prompt,
        completion_tokens: 12,
        total_tokens: prompt + 12,
        prompt_tokens_details: { cached_tokens: 0 },
      },
    })
    expect(Math.abs(data.created - Date.now() / 1000)).toBeLessThan(60)
    expect(request_id).toMatch(/^req_/)
    expect(data.id).toBe(request_id?.replace('req_', 'chatcmpl-'))
  })

  it('tells how many prompt tokens it had computed before, for this tenant and version', async () => {
    const [one, two] = [await pool.addTenant(), await pool.addTenant()]
    for (const each of [one, two]) await pool.deploy(each, 'twin', 'weights of the twins')
    const ask = async (key: string, extra: object = {}) => {
      const reply = await pool.sdk(key).chat.completions.create(chat({ model: 'twin', ...extra }))
      return {
        cached: reply.usage?.prompt_tokens_details?.cached_tokens,
        text: reply.choices[0]?.message.content,
      }
    }
    const first = await ask(one.key)
    expect(first.cached).toBe(0)
    expect(await ask(one.key)).toEqual({ ...first, cached: 16 })
    expect(await ask(two.key)).toEqual(first)
    await pool.deploy(one, 'twin', 'other weights')
    expect((await ask(one.key)).cached).toBe(0)
    expect(await ask(one.key, { model: 'twin@1' })).toEqual({ ...first, cached: 16 })
  })

  it.each([
    ['support', 'weights of version 2'],
    ['support@1', 'weights of version 1'],
    ['TENANT/support', 'weights of version 2'],
    ['TENANT/support@1', 'weights of version 1'],
  ])('accepts the name %s on both endpoints', async (name, weights) => {
    const model = name.replace('TENANT', tenant.name)
    for (const path of ['/v1', `/${tenant.name}/support/v1`]) {
      const reply = await pool.sdk(tenant.key, path).chat.completions.create(chat({ model }))
      expect(reply.choices[0]?.message.content).toBe(expectedReply(weights, 'hello', 12))
      expect(reply.model).toBe(model)
    }
  })

  it('serves the base model on the shared endpoint', async () => {
    const reply = await pool.sdk(tenant.key).chat.completions.create(chat({ model: 'fake-base' }))
    expect(reply.choices[0]?.message.content).toBe(expectedReply(null, 'hello', 12))
  })

  it('needs no model name on a model’s own endpoint', async () => {
    const response = await pool.call(
      'POST',
      `/${tenant.name}/support/v1/chat/completions`,
      tenant.key,
      { messages, max_completion_tokens: 3, max_tokens: 9 },
    )
    expect(await response.json()).toMatchObject({
      model: 'support',
      usage: { completion_tokens: 3 },
    })
  })

  it('streams role, text, finish and nothing else unless usage is asked for', async () => {
    const sdk = pool.sdk(tenant.key)
    const chunks = []
    for await (const chunk of await sdk.chat.completions.create({ ...chat(), stream: true })) {
      chunks.push(chunk)
    }
    expect(chunks[0]?.choices[0]?.delta).toEqual({ role: 'assistant', content: '', refusal: null })
    const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')
    expect(text).toBe(expectedReply('weights of version 2', 'hello', 12))
    expect(chunks.at(-1)?.choices[0]).toMatchObject({ delta: {}, finish_reason: 'length' })
    expect(new Set(chunks.map((chunk) => chunk.id)).size).toBe(1)
    for (const chunk of chunks) {
      expect(chunk.object).toBe('chat.completion.chunk')
      expect(chunk.choices).toHaveLength(1)
      expect('usage' in chunk).toBe(false)
    }
  })

  it('ends with one chunk of usage when asked, and null usage before it', async () => {
    const stream = await pool.sdk(tenant.key).chat.completions.create({
      ...chat(),
      stream: true,
      stream_options: { include_usage: true },
    })
    const chunks = []
    for await (const chunk of stream) chunks.push(chunk)
    const last = chunks.pop()
    expect(last?.choices).toEqual([])
    expect(last?.usage).toMatchObject({
      prompt_tokens: promptTokens('hello'),
      completion_tokens: 12,
    })
    expect(chunks.length).toBeGreaterThan(3)
    for (const chunk of chunks) expect(chunk.usage).toBeNull()
  })

  it('closes a stream with [DONE], as server-sent events that nothing stores', async () => {
    const response = await pool.call('POST', '/v1/chat/completions', tenant.key, {
      ...chat(),
      stream: true,
    })
    expect(response.headers.get('content-type')).toContain('text/event-stream')
    expect(response.headers.get('cache-control')).toBe('no-store')
    expect(response.headers.get('x-request-id')).toMatch(/^req_/)
    const text = await response.text()
    expect(text.endsWith('\n\ndata: [DONE]\n\n')).toBe(true)
    expect(text.split('[DONE]')).toHaveLength(2)
  })

  it('honours stop strings and gives log probabilities', async () => {
    const text = expectedReply('weights of version 2', 'hello', 12)
    const stop = text.slice(5, 8)
    const sdk = pool.sdk(tenant.key)
    const stopped = await sdk.chat.completions.create(chat({ stop }))
    expect(stopped.choices[0]).toMatchObject({
      message: { content: text.slice(0, text.indexOf(stop)) },
      finish_reason: 'stop',
    })
    const logged = await sdk.chat.completions.create(
      chat({ max_tokens: 2, logprobs: true, top_logprobs: 2 }),
    )
    const content = logged.choices[0]?.logprobs?.content ?? []
    expect(content.map(({ token }) => token).join('')).toBe(text.slice(0, 2))
    expect(content[0]).toMatchObject({ logprob: -0.5, bytes: [text.charCodeAt(0)] })
    expect(content[0]?.top_logprobs).toHaveLength(2)
    // Hidden by a stop string: there is nothing to tell, and that is told.
    const hidden = await sdk.chat.completions.create(
      chat({ stop: text.slice(0, 2), logprobs: true }),
    )
    expect(hidden.choices[0]?.logprobs).toEqual({ content: [], refusal: null })
  })

  it('reads text parts, system and developer messages', async () => {
    const reply = await pool.sdk(tenant.key).chat.completions.create({
      ...chat({ max_tokens: 4 }),
      messages: [
        { role: 'developer', content: 'be brief' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'hel' },
            { type: 'text', text: 'lo' },
          ],
        },
      ],
    })
    const prompt = [...Buffer.from('<system>be brief<user>hel\nlo<assistant>')]
    const payload = Buffer.from('weights of version 2')
    expect(reply.choices[0]?.message.content).toBe(
      String.fromCharCode(...expectedTokens(payload, prompt, { tokensMax: 4 })),
    )
  })
})

describe('several choices', () => {
  const seeds = [0, 1, 2].map((choice) => choiceSeed(7, choice))
  const textOf = (prompt: string, seed: number): string =>
    String.fromCharCode(
      ...expectedTokens(Buffer.from('weights of version 2'), [...Buffer.from(prompt)], {
        tokensMax: 12,
        seed,
      }),
    )
  const request = (extra: object = {}) => chat({ temperature: 1, seed: 7, n: 3, ...extra })

  it('answers n different texts in order, on one bill', async () => {
    const { data, request_id } = await pool
      .sdk(tenant.key)
      .chat.completions.create(request())
      .withResponse()
    const expected = seeds.map((seed) => textOf('<user>hello<assistant>', seed))
    expect(new Set(expected).size).toBe(3)
    expect(data.choices.map(({ message }) => message.content)).toEqual(expected)
    expect(data.choices.map(({ index }) => index)).toEqual([0, 1, 2])
    const prompt = promptTokens('hello')
    expect(data.usage).toMatchObject({ prompt_tokens: prompt, completion_tokens: 36 })
    const path = `/v1/tenants/${tenant.name}/usage/events?limit=100`
    const billed = await until(async () => {
      const reply = await pool.call('GET', path, pool.operatorKey)
      const { data: events } = (await reply.json()) as { data: { request_id: string }[] }
      const own = events.filter((event) => event.request_id === request_id)
      if (own.length === 0) throw new Error('not shipped yet')
      return own
    })
    expect(billed).toMatchObject([{ prompt_tokens: prompt, completion_tokens: 36 }])
  })

  it('streams them side by side, each chunk with its index and each choice with its end', async () => {
    const options = { stream: true, stream_options: { include_usage: true } } as const
    const stream = await pool.sdk(tenant.key).chat.completions.create({ ...request(), ...options })
    const texts = ['', '', '']
    const finishes: (string | null)[] = [null, null, null]
    const order: number[] = []
    let usage = 0
    for await (const chunk of stream) {
      usage = chunk.usage?.completion_tokens ?? usage
      for (const { index, delta, finish_reason } of chunk.choices) {
        expect(finishes[index]).toBeNull()
        texts[index] += delta.content ?? ''
        if (delta.content) order.push(index)
        finishes[index] = finish_reason
      }
    }
    expect(texts).toEqual(seeds.map((seed) => textOf('<user>hello<assistant>', seed)))
    expect(finishes).toEqual(['length', 'length', 'length'])
    expect(usage).toBe(36)
    // Not one after the other.
    expect(order).not.toEqual([...order].sort())
  })

  it('serves them on legacy completions too, whole and streamed', async () => {
    const body = { model: 'support', prompt: 'once', max_tokens: 12, n: 3, seed: 7 }
    const sdk = pool.sdk(tenant.key)
    const expected = seeds.map((seed) => textOf('once', seed))
    const whole = await sdk.completions.create(body)
    expect(whole.choices.map(({ text }) => text)).toEqual(expected)
    const texts = ['', '', '']
    for await (const chunk of await sdk.completions.create({ ...body, stream: true })) {
      for (const { index, text } of chunk.choices) texts[index] += text
    }
    expect(texts).toEqual(expected)
  })
})

describe('legacy completions through the official SDK', () => {
  const expected = (prompt: string, tokens: number) =>
    String.fromCharCode(
      ...expectedTokens(Buffer.from('weights of version 2'), [...Buffer.from(prompt)], {
        tokensMax: tokens,
      }),
    )

  it('continues text, and tokens, the same way', async () => {
    const sdk = pool.sdk(tenant.key, `/${tenant.name}/support/v1`)
    const prompts = ['once upon', [...Buffer.from('once upon')], ['once upon']]
    for (const prompt of prompts as (string | number[])[]) {
      const reply = await sdk.completions.create({ model: 'support', prompt, temperature: 0 })
      expect(reply).toMatchObject({
        object: 'text_completion',
        choices: [{ index: 0, text: expected('once upon', 16), finish_reason: 'length' }],
        usage: { prompt_tokens: 9, completion_tokens: 16, total_tokens: 25 },
      })
      expect(reply.id).toMatch(/^cmpl-/)
    }
  })

  it('streams', async () => {
    const stream = await pool.sdk(tenant.key).completions.create({
      model: 'support',
      prompt: 'once',
      max_tokens: 5,
      temperature: 0,
      stream: true,
      logprobs: 1,
    })
    const chunks = []
    for await (const chunk of stream) chunks.push(chunk)
    expect(chunks.map((chunk) => chunk.choices[0]?.text).join('')).toBe(expected('once', 5))
    expect(chunks.map((chunk) => chunk.choices[0]?.logprobs?.text_offset?.[0])).toEqual([
      0,
      1,
      2,
      3,
      4,
      undefined,
    ])
    expect(chunks.at(-1)?.choices[0]?.finish_reason).toBe('length')
  })
})

describe('models', () => {
  it('lists the base model and the models of the key’s tenant, and no others', async () => {
    const ids = []
    for await (const model of await pool.sdk(tenant.key).models.list()) ids.push(model.id)
    expect(ids).toEqual(['fake-base', `${tenant.name}/support`])
  })

  it('lists one model on its own endpoint, and finds it by each of its names', async () => {
    const sdk = pool.sdk(tenant.key, `/${tenant.name}/support/v1`)
    const { data } = await sdk.models.list()
    expect(data).toMatchObject([
      { id: `${tenant.name}/support`, object: 'model', parent: 'fake-base', max_model_len: 512 },
    ])
    for (const name of ['support', `${tenant.name}/support`]) {
      expect((await sdk.models.retrieve(name)).id).toBe(`${tenant.name}/support`)
    }
    expect((await pool.sdk(tenant.key).models.retrieve('fake-base')).id).toBe('fake-base')
  })

  it('does not tell another tenant’s model from one that does not exist', async () => {
    const stranger = `${other.name}/secret`
    const attempts = [
      () => pool.sdk(tenant.key).chat.completions.create(chat({ model: stranger })),
      () => pool.sdk(tenant.key, `/${other.name}/secret/v1`).chat.completions.create(chat()),
      () => pool.sdk(tenant.key).models.retrieve(stranger),
      () => pool.sdk(tenant.key, `/${other.name}/secret/v1`).models.list(),
      () => pool.sdk(tenant.key).chat.completions.create(chat({ model: 'nothing' })),
      () => pool.sdk(tenant.key).chat.completions.create(chat({ model: 'support@9' })),
      () =>
        pool
          .sdk(tenant.key, `/${tenant.name}/support/v1`)
          .chat.completions.create(chat({ model: 'fake-base' })),
    ]
    for (const attempt of attempts) {
      const error = await failureOf(attempt())
      expect(error).toBeInstanceOf(OpenAI.NotFoundError)
      expect(error).toMatchObject({ status: 404, code: 'model_not_found', param: 'model' })
    }
  })
})

describe('errors as the SDK reads them', () => {
  it.each([
    [{ temperature: 3 }, 'temperature', 'invalid_request'],
    [{ messages: [] }, 'messages', 'invalid_request'],
    [{ messages: [{ role: 'user', content: 7 }] }, 'messages.0.content', 'invalid_request'],
    [{ stop: ['a', 'b', 'c', 'd', 'e'] }, 'stop', 'invalid_request'],
    [{ n: 17 }, 'n', 'invalid_request'],
    [{ tools: [{ type: 'function' }] }, 'tools.0.function', 'invalid_request'],
    [
      {
        response_format: {
          type: 'json_schema',
          json_schema: { name: 'a', schema: { properties: { b: { oneOf: [] } } } },
        },
      },
      'response_format.json_schema.schema.properties.b.oneOf',
      'unsupported_parameter',
    ],
    [{ grammar: 'invalid' }, 'grammar', 'invalid_request'],
    [{ grammar: 'stuck' }, 'grammar', 'invalid_request'],
    [{ logit_bias: { 5: 1, 258: 1 } }, 'logit_bias.258', 'invalid_request'],
    [
      { messages: [{ role: 'user', content: 'x'.repeat(600) }] },
      'messages',
      'context_length_exceeded',
    ],
  ])('names the field at fault, case %#', async (extra, param, code) => {
    const error = await failureOf(pool.sdk(tenant.key).chat.completions.create(chat(extra)))
    expect(error).toBeInstanceOf(OpenAI.BadRequestError)
    expect(error).toMatchObject({ status: 400, code, type: 'invalid_request_error' })
    if (param !== null) expect(error.param).toBe(param)
    expect(error.requestID).toMatch(/^req_/)
    expect(error.message.length).toBeGreaterThan(10)
  })

  it('refuses what is not JSON, lacks a model, or is too large', async () => {
    const post = (body: string) =>
      fetch(`${pool.url}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${tenant.key}` },
        body,
      })
    const broken = await post('{"model":')
    expect(broken.status).toBe(400)
    const nameless = await post(JSON.stringify({ messages }))
    expect(await nameless.json()).toMatchObject({ error: { param: 'model' } })
    const huge = await post(JSON.stringify({ model: 'support', user: 'x'.repeat(4_000_000) }))
    expect(huge.status).toBe(413)
    expect(await huge.json()).toMatchObject({ error: { code: 'payload_too_large' } })
  })

  it('answers an unknown URL with an error object', async () => {
    const response = await pool.call('POST', '/v1/embeddings', tenant.key, {})
    expect(response.status).toBe(404)
    expect(await response.json()).toMatchObject({ error: { code: 'not_found', param: null } })
    expect(response.headers.get('x-request-id')).toMatch(/^req_/)
  })

  it('lets a page in a browser call', async () => {
    const response = await fetch(`${pool.url}/v1/chat/completions`, {
      method: 'OPTIONS',
      headers: {
        origin: 'https://page.example',
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization,content-type,x-stainless-lang',
      },
    })
    expect(response.status).toBe(204)
    expect(response.headers.get('access-control-allow-origin')).toBe('*')
    expect(response.headers.get('access-control-allow-headers')).toContain('x-stainless-lang')
  })
})
