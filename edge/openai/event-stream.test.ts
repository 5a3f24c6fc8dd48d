import OpenAI from 'openai'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { ChunkEvent, EndEvent } from '#protocol'
import { EdgeError } from '../errors.ts'
import { KEEP_ALIVE_MS } from '../limits.ts'
import { chunkEvent, END_EVENT } from '../test/support/host-events.ts'
import { createChatReply } from './chat-reply.ts'
import { createEventStream } from './event-stream.ts'

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] }))
afterEach(() => void vi.useRealTimers())

const head = { id: '1', created: 0, model: 'm', choices: 1, withTier: false, callable: null }
const said = chunkEvent('hi')

function streamOf(
  events: AsyncGenerator<ChunkEvent | EndEvent, void, void>,
  callable: ReadonlySet<string> | null = null,
) {
  return createEventStream({
    format: createChatReply({ ...head, callable }),
    events,
    first: events.next(),
    withUsage: false,
    abort: () => {},
    onDelivered: () => {},
    onEnd: () => {},
  })
}

/** As the SDK reads a stream that came over HTTP. */
async function readBySdk(body: ReadableStream<Uint8Array>) {
  const headers = { 'content-type': 'text/event-stream' }
  const sdk = new OpenAI({ apiKey: 'none', fetch: async () => new Response(body, { headers }) })
  return sdk.chat.completions.create({ model: 'm', messages: [], stream: true })
}

it('keeps a stream open with comments that every client skips', async () => {
  const [raw, forSdk] = streamOf(
    (async function* () {
      yield said
      await new Promise((resolve) => setTimeout(resolve, KEEP_ALIVE_MS * 2.5))
      yield { ...said, finish_reason: 'stop' }
      yield END_EVENT
    })(),
  ).tee()
  const texts: string[] = []
  const reading = (async () => {
    for await (const chunk of await readBySdk(forSdk)) {
      texts.push(chunk.choices[0]?.delta.content ?? '')
    }
  })()
  const wire = new Response(raw).text()
  await vi.advanceTimersByTimeAsync(KEEP_ALIVE_MS * 3)
  await reading
  expect((await wire).split(': waiting\n\n')).toHaveLength(3)
  expect(texts.join('')).toBe('hihi')
})

it('keeps it open while tokens come that show nothing yet', async () => {
  const call = '<tool_call>{"name":"f","arguments":{}}</tool_call>'
  const stream = streamOf(
    (async function* () {
      for (const text of call) {
        yield { ...said, text }
        await new Promise((resolve) => setTimeout(resolve, KEEP_ALIVE_MS / 10))
      }
      yield { ...said, text: '', tokens: 0, finish_reason: 'stop' }
      yield END_EVENT
    })(),
    new Set(['f']),
  )
  const wire = new Response(stream).text()
  await vi.advanceTimersByTimeAsync(KEEP_ALIVE_MS * 6)
  const frames = (await wire).split('\n\n')
  const waits = call.indexOf('}}') / 10
  expect(frames.filter((frame) => frame === ': waiting').length).toBeGreaterThan(waits - 2)
  expect(frames.filter((frame) => frame.includes('tool_calls'))).toHaveLength(2)
})

it('tells a failure in a frame that SDKs throw, without [DONE]', async () => {
  const [raw, forSdk] = streamOf(
    (async function* () {
      yield said
      throw new EdgeError('host_failed', 'the host broke off')
    })(),
  ).tee()
  const reading = (async () => {
    for await (const _ of await readBySdk(forSdk));
  })()
  await expect(reading).rejects.toMatchObject({ code: 'host_failed', type: 'server_error' })
  expect(await new Response(raw).text()).not.toContain('[DONE]')
})
