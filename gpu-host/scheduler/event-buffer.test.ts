import { describe, expect, it } from 'vitest'
import type { GenerateEvent } from '../protocol.ts'
import { EventBuffer } from './event-buffer.ts'

const chunk = (text: string): GenerateEvent => ({
  type: 'chunk',
  choice: 0,
  text,
  tokens: 1,
  finish_reason: null,
})

describe('EventBuffer', () => {
  it('is full at its bound, and has room again once half is taken', async () => {
    let rooms = 0
    const buffer = new EventBuffer(4, () => {
      rooms += 1
    })
    for (const text of ['a', 'b', 'c', 'd']) buffer.push(chunk(text))
    expect(buffer.isFull).toBe(true)
    await buffer.next()
    expect(buffer.isFull).toBe(true)
    await buffer.next()
    expect(buffer.isFull).toBe(false)
    expect(rooms).toBe(1)
  })

  it('hands a waiting consumer the event, and null after the last', async () => {
    const buffer = new EventBuffer(4, () => {})
    const next = buffer.next()
    buffer.push(chunk('a'))
    buffer.push(chunk('b'))
    buffer.end()
    buffer.push(chunk('late'))
    expect(await next).toEqual(chunk('a'))
    expect(await buffer.next()).toEqual(chunk('b'))
    expect(await buffer.next()).toBeNull()
  })
})
