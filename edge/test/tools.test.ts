/** Tools through a whole pool, as the official SDK uses them; its hosts say what they are told. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import OpenAI from 'openai'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import type { TestTenant } from './support/pool-client.ts'
import { TestPool } from './support/test-pool.ts'

const chatTemplate = readFileSync(
  join(import.meta.dirname, '../../examples/chat-templates/smollm2-tools.jinja'),
  'utf8',
)
const ANSWER =
  'Let me look.\n<tool_call>\n{"name": "weather", "arguments": {"town": "Oslo"}}\n</tool_call>\n' +
  '<tool_call>\n{"name": "weather", "arguments": {"town": "Bergen"}}\n</tool_call>'
const FAKE_BASE = 'fake-base'

let pool: TestPool
let tenant: TestTenant
beforeEach(async () => {
  pool = await TestPool.start()
  tenant = await pool.addTenant()
})
afterEach(() => pool.stop())

const tools = [
  {
    type: 'function' as const,
    function: {
      name: 'weather',
      description: 'Of a town.',
      parameters: { type: 'object', properties: { town: { type: 'string' } } },
    },
  },
]
const ask = {
  model: FAKE_BASE,
  messages: [{ role: 'user' as const, content: 'Weather?' }],
  tools,
}
const limits = { contextLength: 2048 }

describe('a base whose template knows tools', () => {
  beforeEach(async () => {
    await pool.addHost({ engine: { answer: ANSWER, info: { chatTemplate }, limits } })
  })

  it('answers with calls, whole and streamed, and bills the tokens of all of it', async () => {
    const sdk = pool.sdk(tenant.key)
    const whole = await sdk.chat.completions.create(ask)
    const stream = sdk.chat.completions.stream({ ...ask, stream_options: { include_usage: true } })
    const streamed = await stream.finalChatCompletion()
    for (const { choices, usage } of [whole, streamed]) {
      expect(choices[0]?.finish_reason).toBe('tool_calls')
      expect(choices[0]?.message.content).toBe('Let me look.')
      const calls = choices[0]?.message.tool_calls ?? []
      expect(calls.map((call) => (call.type === 'function' ? call.function : null))).toMatchObject([
        { name: 'weather', arguments: '{"town": "Oslo"}' },
        { name: 'weather', arguments: '{"town": "Bergen"}' },
      ])
      expect(new Set(calls.map(({ id }) => id)).size).toBe(2)
      // A byte each, and the end.
      expect(usage?.completion_tokens).toBe(ANSWER.length + 1)
    }
  })

  it('calls, hears the results and goes on, as the SDK runs it', async () => {
    const towns: string[] = []
    const runner = pool.sdk(tenant.key).chat.completions.runTools(
      {
        ...ask,
        tools: [
          {
            type: 'function',
            function: {
              ...tools[0]?.function,
              parse: (text: string) => z.object({ town: z.string() }).parse(JSON.parse(text)),
              function: ({ town }: { town: string }) => {
                towns.push(town)
                return `-3 in ${town}`
              },
            } as never,
          },
        ],
      },
      { maxChatCompletions: 2 },
    )
    await runner.done()
    expect(towns).toEqual(['Oslo', 'Bergen', 'Oslo', 'Bergen'])
    const roles = runner.messages.map(({ role }) => role)
    expect(roles.slice(0, 5)).toEqual(['user', 'assistant', 'tool', 'tool', 'assistant'])
  })

  it('shows the model tools, calls and results: each is in the prompt', async () => {
    const sdk = pool.sdk(tenant.key)
    const promptOf = async (extra: object) =>
      (await sdk.chat.completions.create({ ...ask, ...extra })).usage?.prompt_tokens ?? 0
    const plain = await promptOf({ tools: undefined })
    const none = await promptOf({ tool_choice: 'none' })
    const shown = await promptOf({})
    expect(none).toBe(plain)
    expect(shown - plain).toBeGreaterThan(JSON.stringify(tools[0]).length)
  })

  it('gives no call of a tool that was not offered', async () => {
    const other = [{ ...tools[0], function: { name: 'now' } }] as typeof tools
    const { choices } = await pool.sdk(tenant.key).chat.completions.create({ ...ask, tools: other })
    expect(choices[0]).toMatchObject({ finish_reason: 'stop', message: { content: ANSWER } })
  })
})

it('a base whose template does not know them refuses tools by name', async () => {
  await pool.addHost({ engine: { limits } })
  const refused = pool.sdk(tenant.key).chat.completions.create(ask)
  await expect(refused).rejects.toBeInstanceOf(OpenAI.BadRequestError)
  await expect(refused).rejects.toMatchObject({ code: 'invalid_request', param: 'tools' })
})
