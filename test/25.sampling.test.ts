/**
 * Sampling and output through the official SDK, on the real model: a schema-bound answer of one
 * adapter beside three sampled choices of another beside a greedy answer of a third, each as it is
 * alone, and each billed once.
 */
import OpenAI from 'openai'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { z } from 'zod'
import { readLedger, untilSettled } from './support/books.ts'
import { readMetrics } from './support/metrics.ts'
import { describeOnPools, ON_NODE_UNLESS_CHOSEN } from './support/on-edges.ts'
import { type Pool, startPool } from './support/pool.ts'
import { createPoolHome, type PoolHome } from './support/pool-home.ts'

const ticketSchema = z.strictObject({
  category: z.enum(['billing', 'bug', 'account', 'other']),
  priority: z.int().min(1).max(5),
  tags: z.array(z.string().min(1).max(12)).max(3),
  due: z.iso.date().nullable(),
})
const ticketFormat = {
  type: 'json_schema',
  json_schema: {
    name: 'ticket',
    strict: true,
    schema: {
      type: 'object',
      properties: {
        category: { type: 'string', enum: ['billing', 'bug', 'account', 'other'] },
        priority: { type: 'integer', minimum: 1, maximum: 5 },
        tags: {
          type: 'array',
          items: { type: 'string', minLength: 1, maxLength: 12 },
          maxItems: 3,
        },
        due: { anyOf: [{ type: 'string', format: 'date' }, { type: 'null' }] },
      },
      required: ['category', 'priority', 'tags', 'due'],
      additionalProperties: false,
    },
  },
} as const

const says = (content: string) => [{ role: 'user' as const, content }]

describeOnPools('sampling and output', ON_NODE_UNLESS_CHOSEN, (edge) => {
  let home: PoolHome
  let pool: Pool
  let sdk: OpenAI

  beforeAll(async () => {
    home = await createPoolHome(edge)
    pool = await startPool(home)
    sdk = new OpenAI({ baseURL: pool.ready.base_url, apiKey: pool.demoKey, maxRetries: 0 })
  })
  afterAll(async () => {
    await pool?.stop()
    await home?.remove()
  })

  const requests = () =>
    [
      {
        model: 'demo/ticket-triage',
        messages: says('I was charged twice for March, please refund one of them.'),
        response_format: ticketFormat,
        seed: 3,
        max_tokens: 160,
      },
      {
        model: 'demo/pii-redact',
        messages: says('Call Ann Smith on 0170 555 1234 or write to ann@example.org.'),
        n: 3,
        seed: 5,
        temperature: 1.3,
        logprobs: true,
        top_logprobs: 2,
        max_tokens: 40,
      },
      {
        model: 'demo/text-to-sql',
        messages: says('Write the SQL query: sum of the amounts of paid orders'),
        temperature: 0,
        logprobs: true,
        max_tokens: 40,
      },
      {
        model: pool.ready.base_model,
        messages: says('Describe a ticket as JSON.'),
        response_format: ticketFormat,
        seed: 8,
        temperature: 1.5,
        max_tokens: 160,
      },
    ] satisfies OpenAI.ChatCompletionCreateParamsNonStreaming[]

  it('answers a schema, three choices and a greedy request in one batch as alone', async () => {
    const alone = []
    for (const request of requests()) alone.push(await sdk.chat.completions.create(request))
    const host = await pool.host()
    const before = await readMetrics(host)
    const together = await Promise.all(
      requests().map((request) => sdk.chat.completions.create(request)),
    )
    const after = await readMetrics(host)
    const name = 'nozzle_step_distinct_slots'
    expect(after.countAbove(name, 2)).toBeGreaterThan(before.countAbove(name, 2))
    for (const [index, { choices, usage }] of together.entries()) {
      expect(choices).toEqual(alone[index]?.choices)
      expect(usage?.completion_tokens).toBe(alone[index]?.usage?.completion_tokens)
    }
    const [ticket, redacted, sql, base] = together
    for (const reply of [ticket, base]) {
      const [choice] = reply?.choices ?? []
      // Cut answers may be; whole ones must hold.
      if (choice?.finish_reason === 'length') continue
      ticketSchema.parse(JSON.parse(choice?.message.content ?? ''))
    }
    expect([ticket, base].some((reply) => reply?.choices[0]?.finish_reason === 'stop')).toBe(true)
    expect(redacted?.choices.map(({ index }) => index)).toEqual([0, 1, 2])
    expect(new Set(redacted?.choices.map(({ message }) => message.content)).size).toBe(3)
    expect(sql?.choices[0]?.message.content).toMatch(/SELECT/i)
    for (const { message, logprobs } of [...(redacted?.choices ?? []), ...(sql?.choices ?? [])]) {
      const bytes = logprobs?.content?.flatMap((token) => token.bytes ?? []) ?? []
      expect(Buffer.from(bytes).toString()).toBe(message.content)
    }
  })

  it('streams choices with their indices, on one bill', async () => {
    const [, request] = requests()
    if (request === undefined) throw new Error('no such request')
    const whole = await sdk.chat.completions.create(request)
    const { data: stream, request_id } = await sdk.chat.completions
      .create({ ...request, stream: true, stream_options: { include_usage: true } })
      .withResponse()
    const texts = ['', '', '']
    let usage: OpenAI.CompletionUsage | null = null
    for await (const chunk of stream) {
      usage = chunk.usage ?? usage
      for (const { index, delta } of chunk.choices) texts[index] += delta.content ?? ''
    }
    expect(texts).toEqual(whole.choices.map(({ message }) => message.content))
    expect(usage?.completion_tokens).toBe(whole.usage?.completion_tokens)
    expect(usage?.prompt_tokens).toBe(whole.usage?.prompt_tokens)
    await untilSettled(pool)
    const rows = await readLedger(pool, ['demo'])
    const own = rows.filter((row) => row.requestId === request_id)
    expect(own).toMatchObject([
      { promptTokens: usage?.prompt_tokens, completionTokens: usage?.completion_tokens },
    ])
  })

  it('refuses a schema that it cannot hold, naming the place and the way out', async () => {
    const schema = { type: 'object', properties: { a: { oneOf: [{ type: 'null' }] } } }
    const failure = await sdk.chat.completions
      .create({
        model: 'demo/ticket-triage',
        messages: says('hi'),
        response_format: { type: 'json_schema', json_schema: { name: 'x', schema } },
      })
      .catch((error: unknown) => error)
    expect(failure).toMatchObject({
      status: 400,
      param: 'response_format.json_schema.schema.properties.a.oneOf',
      message: expect.stringContaining('use "anyOf"'),
    })
  })
})
