import { describe, expect, it } from 'vitest'
import type { ChunkEvent } from '../protocol.ts'
import { EventBuffer } from './event-buffer.ts'

const chunk = (text: string): ChunkEvent => ({
  type: 'chunk',
  choice: 0,
  text,
  tokens: 1,
  finish_reason: null,
})

function build(record: (event: ChunkEvent) => boolean = () => true, bytesMax = 10_000) {
  let rooms = 0
  const recorded: string[] = []
  const buffer = new EventBuffer({
    eventsMax: 4,
    bytesMax,
    onRoom: () => {
      rooms += 1
    },
    record: (event) => {
      recorded.push(event.text)
      return record(event)
    },
  })
  return { buffer, recorded, countRooms: () => rooms }
}

describe('EventBuffer', () => {
  it('is full at its bound, and has room again once half is taken', async () => {
    const { buffer, countRooms } = build()
    for (const text of ['a', 'b', 'c', 'd']) buffer.push(chunk(text))
    expect(buffer.isFull).toBe(true)
    await buffer.next()
    expect(buffer.isFull).toBe(true)
    await buffer.next()
    expect(buffer.isFull).toBe(false)
    expect(countRooms()).toBe(1)
  })

  it('is full at its bytes, too, counted as such: not as characters, and not without what goes along', async () => {
    const { buffer, countRooms } = build(() => true, 1000)
    buffer.push(chunk('a'.repeat(300)))
    expect(buffer.isFull).toBe(false)
    buffer.push(chunk('€'.repeat(200)))
    expect(buffer.isFull).toBe(true)
    expect(buffer.bytes).toBeGreaterThanOrEqual(900)
    await buffer.next()
    expect(buffer.isFull).toBe(true)
    await buffer.next()
    expect([buffer.isFull, buffer.bytes, countRooms()]).toEqual([false, 0, 1])
    const token = { token: 'a', bytes: [97], logprob: -1, top: [] }
    buffer.push({ ...chunk('a'), logprobs: Array.from({ length: 20 }, () => token) })
    expect(buffer.isFull).toBe(true)
    buffer.dropChunks()
    expect(buffer.bytes).toBe(0)
  })

  it('hands a waiting consumer the event unrecorded, records what lay here when it is taken', async () => {
    const { buffer, recorded } = build()
    expect(buffer.isAwaited).toBe(false)
    const next = buffer.next()
    expect(buffer.isAwaited).toBe(true)
    buffer.push(chunk('a'))
    expect(buffer.isAwaited).toBe(false)
    buffer.push(chunk('b'))
    buffer.end()
    buffer.push(chunk('late'))
    expect(await next).toEqual(chunk('a'))
    expect(recorded).toEqual([])
    expect(await buffer.next()).toEqual(chunk('b'))
    expect(recorded).toEqual(['b'])
    expect(await buffer.next()).toBeNull()
  })

  it('hands over nothing that could not be recorded', async () => {
    const { buffer } = build(({ text }) => text !== 'b')
    for (const text of ['a', 'b', 'c']) buffer.push(chunk(text))
    expect(await buffer.next()).toEqual(chunk('a'))
    expect(await buffer.next()).toEqual(chunk('c'))
  })

  it('forgets untaken chunks when told, and nothing else', async () => {
    const { buffer } = build()
    const accepted = {
      type: 'accepted' as const,
      request_id: 'req_a',
      host_id: 'hst_a',
      prompt_tokens: 1,
    }
    buffer.push(accepted)
    buffer.push(chunk('a'))
    expect(buffer.hasChunks).toBe(true)
    buffer.dropChunks()
    buffer.end()
    expect(buffer.hasChunks).toBe(false)
    expect(await buffer.next()).toEqual(accepted)
    expect(await buffer.next()).toBeNull()
  })
})
