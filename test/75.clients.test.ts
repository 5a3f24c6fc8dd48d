/**
 * The clients that people have, against the real engine: OpenAI's SDKs for JavaScript and Python,
 * the Vercel AI SDK, curl. Each asks whole and streamed, under a schema, and wrongly.
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { generateText, Output, stepCountIs, streamText, tool } from 'ai'
import OpenAI from 'openai'
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { describeOnPools, ON_NODE_UNLESS_CHOSEN } from './support/on-edges.ts'
import { type Pool, startPool } from './support/pool.ts'
import { createPoolHome, type PoolHome, TOOLS_ENV } from './support/pool-home.ts'
import { pythonPath, pythonReason, runPython } from './support/python.ts'

const ticket = z.strictObject({ category: z.enum(['billing', 'bug', 'account', 'other']) })
const messages = [{ role: 'user' as const, content: 'Say hello to my cat.' }]

describeOnPools('clients', ON_NODE_UNLESS_CHOSEN, (edge) => {
  let home: PoolHome
  let pool: Pool
  let few: { model: string; messages: typeof messages; max_tokens: number; temperature: number }

  beforeAll(async () => {
    home = await createPoolHome(edge)
    pool = await startPool({ env: { ...home.env, ...TOOLS_ENV } })
    few = { model: pool.ready.base_model, messages, max_tokens: 8, temperature: 0 }
  })
  afterAll(async () => {
    await pool?.stop()
    await home?.remove()
  })

  const sdk = (options: ConstructorParameters<typeof OpenAI>[0] = {}): OpenAI =>
    new OpenAI({ baseURL: pool.ready.base_url, apiKey: pool.demoKey, maxRetries: 0, ...options })

  describe('openai for JavaScript', () => {
    it('asks, streams and accumulates the same answer', async () => {
      const whole = await sdk().chat.completions.create(few)
      const stream = sdk().chat.completions.stream({
        ...few,
        stream_options: { include_usage: true },
      })
      const pieces: string[] = []
      stream.on('content', (piece) => pieces.push(piece))
      const final = await stream.finalChatCompletion()
      expect(final.choices[0]?.message.content).toBe(whole.choices[0]?.message.content)
      expect(pieces.join('')).toBe(whole.choices[0]?.message.content)
      expect(final.usage?.completion_tokens).toBe(whole.usage?.completion_tokens)
      expect(whole._request_id).toMatch(/^req_/)
    })

    it('parses an answer under a schema of zod', async () => {
      const { choices } = await sdk().chat.completions.parse({
        ...few,
        max_tokens: 40,
        response_format: zodResponseFormat(ticket, 'ticket'),
      })
      ticket.parse(choices[0]?.message.parsed)
    })

    it('calls a tool, whole and streamed, and tells its result', async () => {
      const called = {
        ...{ ...few, max_tokens: 60, parallel_tool_calls: false },
        tools: [zodFunction({ name: 'file_ticket', parameters: ticket })],
        tool_choice: 'required' as const,
      }
      const whole = await sdk().chat.completions.parse(called)
      const streamed = await sdk().chat.completions.stream(called).finalChatCompletion()
      const [message, other] = [whole, streamed].map(({ choices }) => choices[0]?.message)
      const [call] = message?.tool_calls ?? []
      if (message === undefined || call?.type !== 'function') throw new Error('no call')
      ticket.parse(call.function.parsed_arguments)
      expect(other?.tool_calls).toMatchObject([{ type: 'function', function: call.function }])
      expect(streamed.choices[0]?.finish_reason).toBe('tool_calls')
      const result = { role: 'tool' as const, tool_call_id: call.id, content: 'filed as 17' }
      const told = await sdk().chat.completions.create({
        ...few,
        messages: [...messages, message, result],
      })
      expect(told.choices[0]?.message.content).not.toBe('')
    })

    it('lists models page by page, and shows one', async () => {
      const ids: string[] = []
      for await (const { id } of sdk().models.list()) ids.push(id)
      expect(ids).toContain(pool.ready.base_model)
      expect(ids).toContain('demo/ticket-triage')
      expect(await sdk().models.retrieve('demo/ticket-triage')).toMatchObject({
        object: 'model',
        owned_by: 'demo',
      })
    })

    it('throws the class of each error, with field, code and request id', async () => {
      const wrong = async (call: Promise<unknown>) => call.catch((error: unknown) => error)
      const ask = (fields: object) => wrong(sdk().chat.completions.create({ ...few, ...fields }))
      const bad = await ask({ modalities: ['audio'] })
      expect(bad).toBeInstanceOf(OpenAI.BadRequestError)
      expect(bad).toMatchObject({ param: 'modalities', code: 'unsupported_parameter' })
      expect(bad).toHaveProperty('requestID', expect.stringMatching(/^req_/))
      expect(await ask({ model: 'nobody/nothing' })).toBeInstanceOf(OpenAI.NotFoundError)
      const stranger = sdk({ apiKey: 'sk-wrong' }).chat.completions.create(few)
      expect(await wrong(stranger)).toBeInstanceOf(OpenAI.AuthenticationError)
    })

    it('tries again when it is told to, and not when it is told not to', async () => {
      const { name, key } = await addTenant(pool)
      let attempts = 0
      const counted: typeof fetch = (url, init) => {
        attempts += 1
        return fetch(url, init)
      }
      const patient = sdk({ apiKey: key, maxRetries: 8, fetch: counted })
      const options = { headers: { 'idempotency-key': 'order-17' } }
      const both = [1, 2].map(() => patient.chat.completions.create(few, options))
      const [one, other] = await Promise.all(both)
      // The second is told to come back while the first is under way, and finds its reply.
      expect(attempts).toBe(3)
      expect(other).toEqual(one)
      await setLimits(pool, name, { monthly_spend_pusd: '0' })
      attempts = 0
      const spent = patient.chat.completions.create(few)
      await expect(spent).rejects.toMatchObject({ status: 429, code: 'insufficient_quota' })
      expect(attempts).toBe(1)
    })
  })

  describe('Vercel AI SDK', () => {
    const provider = () =>
      createOpenAICompatible({
        name: 'nozzle',
        baseURL: pool.ready.base_url,
        apiKey: pool.demoKey,
        includeUsage: true,
        supportsStructuredOutputs: true,
      })
    const call = (model: string) => ({
      model: provider().chatModel(model),
      prompt: messages[0]?.content ?? '',
      maxOutputTokens: 8,
      temperature: 0,
      maxRetries: 0,
    })

    it('generates, and streams the same text with usage', async () => {
      const whole = await generateText(call(pool.ready.base_model))
      const stream = streamText(call(pool.ready.base_model))
      const pieces: string[] = []
      for await (const piece of stream.textStream) pieces.push(piece)
      expect(whole.text).not.toBe('')
      expect(pieces.join('')).toBe(whole.text)
      expect((await stream.usage).outputTokens).toBe(whole.usage.outputTokens)
      expect(await stream.finishReason).toBe(whole.finishReason)
    })

    it('generates an object', async () => {
      const { output } = await generateText({
        ...call('demo/ticket-triage'),
        maxOutputTokens: 40,
        output: Output.object({ schema: ticket }),
      })
      ticket.parse(output)
    })

    it('calls a tool, and goes on with its result', async () => {
      const filed: unknown[] = []
      const tools = {
        file_ticket: tool({
          description: 'Files a ticket.',
          inputSchema: ticket,
          execute: async (input) => {
            filed.push(input)
            return 'filed as 17'
          },
        }),
      }
      const asked = { ...call(pool.ready.base_model), maxOutputTokens: 60, tools }
      const { steps, finishReason } = await generateText({
        ...asked,
        stopWhen: stepCountIs(2),
        prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? 'required' : 'none' }),
      })
      expect(steps.map(({ finishReason: reason }) => reason)).toEqual(['tool-calls', finishReason])
      const streamed = streamText({ ...asked, toolChoice: 'required' })
      expect(await streamed.finishReason).toMatch(/^(tool-calls|length)$/)
      for (const input of filed) ticket.parse(input)
      expect(filed.length).toBeGreaterThan(1)
      expect((await streamed.toolCalls)[0]).toMatchObject({ toolName: 'file_ticket' })
    })

    it('reads errors', async () => {
      const failed = generateText(call('nobody/nothing'))
      await expect(failed).rejects.toMatchObject({ statusCode: 404, isRetryable: false })
    })
  })

  describe.skipIf(spawnSync('curl', ['--version']).status !== 0)('curl', () => {
    const curl = (...args: string[]): string => {
      const auth = ['-H', `authorization: Bearer ${pool.demoKey}`]
      return spawnSync('curl', ['-sS', ...auth, ...args], { encoding: 'utf8' }).stdout
    }
    const chatUrl = () => `${pool.ready.base_url}/chat/completions`

    it('asks without a content type, streams unbuffered, and is told what is wrong', () => {
      const whole: unknown = JSON.parse(curl(chatUrl(), '-d', JSON.stringify(few)))
      expect(whole).toMatchObject({ object: 'chat.completion' })
      const streamed = curl('-N', '-i', chatUrl(), '-d', JSON.stringify({ ...few, stream: true }))
      expect(streamed).toMatch(/^HTTP\/1\.1 200[\s\S]*content-type: text\/event-stream/i)
      expect(streamed.endsWith('data: [DONE]\n\n')).toBe(true)
      expect(curl(chatUrl(), '-d', '{')).toContain('"code":"invalid_request"')
      expect(curl(`${pool.ready.base_url}/models`)).toContain('"object":"list"')
    })
  })

  describe.skipIf(pythonPath === null)(
    pythonPath === null ? `openai for Python (skipped: ${pythonReason})` : 'openai for Python',
    () => {
      it('asks, streams, parses, lists, and raises', async () => {
        const script = join(import.meta.dirname, 'support', 'openai-client.py')
        const { base_url, base_model } = pool.ready
        const seen = await runPython([script, base_url, pool.demoKey, base_model], home.directory)
        const whole = await sdk().chat.completions.create(few)
        const text = whole.choices[0]?.message.content
        expect(JSON.parse(seen)).toEqual({
          text,
          streamed: text,
          extension: text,
          logprobs: text,
          request_id: expect.stringMatching(/^req_/),
          header: expect.stringMatching(/^req_/),
          usage: expect.objectContaining({ completion_tokens: 8 }),
          streamed_usage: expect.objectContaining({ completion_tokens: 8 }),
          finish: 'length',
          colour: expect.stringMatching(/^(red|green)$/),
          tool: { name: 'paint', colour: expect.stringMatching(/^(red|green)$/) },
          tool_finish: 'tool_calls',
          tool_result: expect.any(String),
          completion: expect.stringMatching(/./),
          models: expect.arrayContaining([base_model, 'demo/ticket-triage']),
          model: 'demo',
          refused: {
            class: 'BadRequestError',
            code: 'unknown_parameter',
            param: 'best',
            type: 'invalid_request_error',
            request_id: expect.stringMatching(/^req_/),
          },
          missing: expect.objectContaining({ class: 'NotFoundError', code: 'model_not_found' }),
          stranger: expect.objectContaining({ class: 'AuthenticationError' }),
        })
      })
    },
  )
})

async function asOperator(pool: Pool, method: string, path: string, body: object) {
  const response = await fetch(pool.edgeUrl + path, {
    method,
    headers: { authorization: `Bearer ${pool.operator.apiKey}` },
    body: JSON.stringify(body),
  })
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`)
  return response.json()
}

async function addTenant(pool: Pool): Promise<{ name: string; key: string }> {
  const name = `client-${crypto.randomUUID().slice(0, 8)}`
  await asOperator(pool, 'POST', '/v1/tenants', { name })
  const reply = await asOperator(pool, 'POST', `/v1/tenants/${name}/keys`, {})
  return { name, key: z.object({ key: z.string() }).parse(reply).key }
}

async function setLimits(pool: Pool, tenant: string, limits: object): Promise<void> {
  await asOperator(pool, 'PATCH', `/v1/tenants/${tenant}/limits`, limits)
}
