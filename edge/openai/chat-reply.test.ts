import { expect, it } from 'vitest'
import type { ChunkEvent } from '#protocol'
import { chunkEvent, END_EVENT } from '../test/support/host-events.ts'
import { createChatReply } from './chat-reply.ts'
import { chatChunk, chatReply } from './reply-schemas.ts'

const head = { id: '1', created: 0, model: 'm', choices: 2, withTier: false }
const format = (callable: ReadonlySet<string> | null = new Set(['f'])) =>
  createChatReply({ ...head, callable })
const chunk = (choice: number, text: string, more: Partial<ChunkEvent> = {}): ChunkEvent =>
  chunkEvent(text, { choice, ...more })
const CALL = '<tool_call>{"name":"f","arguments":{"a":1}}</tool_call>'
const call = (id: string) => ({
  id,
  type: 'function',
  function: { name: 'f', arguments: '{"a":1}' },
})
/** Of two choices, mixed: one of text and a call, one of two calls. */
const MIXED = [
  chunk(0, 'See:\n<tool_'),
  chunk(1, CALL + CALL),
  chunk(0, CALL.slice('<tool_'.length), { finish_reason: 'stop' }),
  chunk(1, '', { tokens: 0, finish_reason: 'stop' }),
]

it('reads the calls of each choice, and none where no tool was offered', () => {
  const { choices } = chatReply.parse(format().whole(MIXED, END_EVENT))
  expect(choices.map(({ message, finish_reason }) => ({ ...message, finish_reason }))).toEqual([
    {
      role: 'assistant',
      content: 'See:',
      refusal: null,
      tool_calls: [call('call_1_0_0')],
      finish_reason: 'tool_calls',
    },
    {
      role: 'assistant',
      content: null,
      refusal: null,
      tool_calls: [call('call_1_1_0'), call('call_1_1_1')],
      finish_reason: 'tool_calls',
    },
  ])
  const [plain] = chatReply.parse(format(null).whole(MIXED, END_EVENT)).choices
  expect(plain?.message).toEqual({ role: 'assistant', content: `See:\n${CALL}`, refusal: null })
  expect(plain?.finish_reason).toBe('stop')
})

it('streams the same', () => {
  const reply = format()
  const chunks = MIXED.flatMap((event) => [
    ...reply.chunk(event),
    ...(event.finish_reason === null ? [] : [reply.finish(event)]),
  ]).map((value) => chatChunk.parse(value))
  const of = (index: number) =>
    chunks.flatMap(({ choices }) => choices.filter((choice) => choice.index === index))
  expect(of(0).map(({ delta }) => delta)).toEqual([
    { content: 'See:' },
    { tool_calls: [{ index: 0, ...call('call_1_0_0') }] },
    {},
  ])
  expect(of(1).map(({ delta }) => delta)).toEqual([
    { tool_calls: [{ index: 0, ...call('call_1_1_0') }] },
    { tool_calls: [{ index: 1, ...call('call_1_1_1') }] },
    {},
  ])
  expect([of(0).at(-1), of(1).at(-1)]).toMatchObject([
    { finish_reason: 'tool_calls' },
    { finish_reason: 'tool_calls' },
  ])
})

it('says that a call was cut, as text and by its finish', () => {
  const cut = [0, 1].map((index) => chunk(index, '<tool_call>{"na', { finish_reason: 'length' }))
  const [choice] = chatReply.parse(format().whole(cut, END_EVENT)).choices
  expect(choice).toMatchObject({
    message: { content: '<tool_call>{"na' },
    finish_reason: 'length',
  })
  expect(choice?.message.tool_calls).toBeUndefined()
})

it('tells log probabilities of the tokens of a call, with what comes first', () => {
  const logprobs = [{ token: '<', bytes: [60], logprob: -1, top: [] }]
  const reply = format()
  const [silent] = reply.chunk(chunk(0, '<tool_call>', { logprobs }))
  expect(chatChunk.parse(silent).choices[0]).toMatchObject({
    delta: { content: '' },
    logprobs: { content: [{ token: '<' }] },
  })
  expect(reply.chunk(chunk(0, '{'))).toEqual([])
})
