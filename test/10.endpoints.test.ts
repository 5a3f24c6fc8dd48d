/** Each fine-tuned model has an endpoint of its own, and each endpoint does its own task. */
import { spawnSync } from 'node:child_process'
import OpenAI from 'openai'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { z } from 'zod'
import { ask, askStreaming, chatBody, type Reply } from './support/inference.ts'
import { describeOnPools, ON_EACH_EDGE } from './support/on-edges.ts'
import { type Pool, startPool } from './support/pool.ts'
import { createPoolHome, type PoolHome } from './support/pool-home.ts'
import {
  ANSWER_TOKENS_MAX,
  caseOf,
  casesOf,
  EXAMPLE_TASKS,
  type ExampleTask,
  isRight,
} from './support/tasks.ts'

const CASES = 6
/** Of six: the adapters were trained to about this, see examples/README.md. */
const RIGHT_MIN = 5

const curlReply = z.object({
  choices: z.tuple([z.object({ message: z.object({ content: z.string() }) })]),
})

describeOnPools('endpoints', ON_EACH_EDGE, (edge) => {
  let home: PoolHome
  let pool: Pool

  beforeAll(async () => {
    home = await createPoolHome(edge)
    pool = await startPool(home)
  })
  afterAll(async () => {
    await pool?.stop()
    await home?.remove()
  })

  const endpointOf = (task: ExampleTask): string => {
    const model = pool.ready.models.find(({ name }) => name === task)
    return model?.endpoint ?? expect.fail(`no endpoint of ${task}`)
  }
  const question = (baseUrl: string, prompt: string, more: object = {}) => ({
    baseUrl,
    apiKey: pool.demoKey,
    body: chatBody(prompt, ANSWER_TOKENS_MAX, more),
  })
  const expectWhole = (reply: Reply): void => {
    expect(reply).toMatchObject({ status: 200, error: null, finish: 'stop' })
    expect(reply.requestId).toMatch(/^req_/)
    const { prompt_tokens, completion_tokens, total_tokens } = reply.usage ?? expect.fail('usage')
    expect(prompt_tokens).toBeGreaterThan(0)
    expect(completion_tokens).toBeGreaterThan(0)
    expect(total_tokens).toBe(prompt_tokens + completion_tokens)
  }

  it.each(EXAMPLE_TASKS)('of %s answers its own task over plain HTTP', async (task) => {
    const rights = casesOf(task, CASES).map(async (example, index) => {
      const send = index % 2 === 0 ? ask : askStreaming
      const reply = await send(question(endpointOf(task), example.prompt))
      expectWhole(reply)
      return isRight(example, reply.text)
    })
    expect(count(await Promise.all(rights))).toBeGreaterThanOrEqual(RIGHT_MIN)
  })

  it.each(EXAMPLE_TASKS)('of %s answers its own task to the openai package', async (task) => {
    const client = new OpenAI({ baseURL: endpointOf(task), apiKey: pool.demoKey })
    const rights = casesOf(task, CASES).map(async (example, index) => {
      const body = {
        model: task,
        messages: [{ role: 'user' as const, content: example.prompt }],
        max_tokens: ANSWER_TOKENS_MAX,
        temperature: 0,
      }
      const answer = index % 2 === 0 ? await askSdk(client, body) : await streamSdk(client, body)
      return isRight(example, answer)
    })
    expect(count(await Promise.all(rights))).toBeGreaterThanOrEqual(RIGHT_MIN)
  })

  it('stream the very text that they give whole', async () => {
    for (const task of EXAMPLE_TASKS) {
      const asked = question(endpointOf(task), caseOf(task).prompt)
      const [whole, streamed] = [await ask(asked), await askStreaming(asked)]
      expect(streamed.text).toBe(whole.text)
      expect(streamed.usage).toEqual(whole.usage)
    }
  })

  it('answer one prompt in three ways, and the base model in a fourth', async () => {
    const { prompt } = caseOf('ticket-triage')
    const asked = EXAMPLE_TASKS.map((task) => question(endpointOf(task), prompt))
    const { base_url, base_model } = pool.ready
    const replies = await Promise.all(
      [...asked, question(base_url, prompt, { model: base_model })].map(ask),
    )
    expect(replies.map(({ status }) => status)).toEqual([200, 200, 200, 200])
    expect(new Set(replies.map(({ text }) => text)).size).toBe(4)
  })

  it('are also reached by name on the shared one', async () => {
    for (const task of EXAMPLE_TASKS) {
      const { prompt } = caseOf(task)
      const own = await ask(question(endpointOf(task), prompt))
      const shared = await ask(question(pool.ready.base_url, prompt, { model: `demo/${task}` }))
      expect(shared.text).toBe(own.text)
    }
  })

  it.skipIf(spawnSync('curl', ['--version']).status !== 0)(
    'answer the curl line that the start prints',
    () => {
      const { status, stdout } = spawnSync('sh', ['-c', pool.ready.curl], { encoding: 'utf8' })
      expect(status).toBe(0)
      const { choices } = curlReply.parse(JSON.parse(stdout))
      expect(isRight(caseOf('ticket-triage'), choices[0].message.content)).toBe(true)
    },
  )

  it('are there again, with the same key and nothing deployed anew, after a stop', async () => {
    const { demoKey } = pool
    const before = await pool.nozzle('model', 'ls', '--json')
    expect(await pool.stop()).toBe(0)
    pool = await startPool(home)
    expect(pool.demoKey).toBe(demoKey)
    expect(pool.notes()).not.toContain('deploying')
    const versions = (text: string) =>
      z
        .object({ data: z.array(z.looseObject({ name: z.string(), version: z.int() })) })
        .parse(JSON.parse(text))
        .data.map(({ name, version }) => ({ name, version }))
    const after = await pool.nozzle('model', 'ls', '--json')
    expect(versions(after.stdout)).toEqual(versions(before.stdout))
    for (const task of EXAMPLE_TASKS) {
      const reply = await ask(question(endpointOf(task), caseOf(task).prompt))
      expect(isRight(caseOf(task), reply.text)).toBe(true)
    }
  })
})

const count = (rights: readonly boolean[]): number => rights.filter(Boolean).length

type ChatBody = Omit<OpenAI.ChatCompletionCreateParamsNonStreaming, 'stream'>

async function askSdk(client: OpenAI, body: ChatBody): Promise<string> {
  const reply = await client.chat.completions.create(body)
  expect(reply.usage?.completion_tokens).toBeGreaterThan(0)
  return reply.choices[0]?.message.content ?? ''
}

async function streamSdk(client: OpenAI, body: ChatBody): Promise<string> {
  const options = { stream: true, stream_options: { include_usage: true } } as const
  const stream = await client.chat.completions.create({ ...body, ...options })
  const pieces: string[] = []
  let tokens = 0
  for await (const chunk of stream) {
    pieces.push(chunk.choices[0]?.delta.content ?? '')
    tokens += chunk.usage?.completion_tokens ?? 0
  }
  expect(tokens).toBeGreaterThan(0)
  // The end token counts, and is no text.
  expect(pieces.length).toBeGreaterThan(2)
  return pieces.join('')
}
