/** A host that ends by itself: its journal has failed, or a newer start of it has reported. */
import { describe, expect, it, vi } from 'vitest'
import { type Disk, nodeDisk } from '../journal/disk.ts'
import type { GenerateEvent } from '../protocol.ts'
import { Gate } from './support/gate.ts'
import { diskError } from './support/simulated-disk.ts'
import { allEvents, createRequest, TestHost } from './support/test-host.ts'

const until = <T>(check: () => T): Promise<T> => vi.waitFor(check, { timeout: 10_000, interval: 5 })

function tokensOf(events: readonly GenerateEvent[]): number {
  return events.reduce((sum, event) => sum + (event.type === 'chunk' ? event.tokens : 0), 0)
}

describe('a host whose journal fails', () => {
  it('ends its streams billed for what they got, ships nothing unsure, and its next start recovers', async () => {
    let isFailing = false
    const disk: Disk = {
      ...nodeDisk,
      fsync: (fd, done) => (isFailing ? done(diskError('EIO', 'fsync')) : nodeDisk.fsync(fd, done)),
    }
    const gate = new Gate()
    const first = await TestHost.start({ disk, engine: { delay: gate.pass } })
    const request = createRequest({ max_tokens: 400 })
    const stream = first.generate(request).then(allEvents)
    gate.open(5)
    await until(() => expect(first.engine.steps).toBe(5))
    isFailing = true
    gate.open(1)
    expect(await first.host.lost).toBe('journal_failed')
    gate.open()
    const events = await stream
    expect(events.at(-1)).toMatchObject({
      type: 'error',
      code: 'journal_failed',
      usage: { completion_tokens: tokensOf(events) },
    })
    await first.host.stop()
    expect(first.usage).toEqual([])
    const second = await TestHost.start({ directory: first.directory })
    await until(() => expect(second.usage).toHaveLength(1))
    const [event] = second.usage
    expect(event).toMatchObject({ request_id: request.request_id, source: 'recovered' })
    const excess = (event?.completion_tokens ?? 0) - tokensOf(events)
    expect([0, 1]).toContain(excess)
    await second.stop()
  })
})

describe('a host whose epoch is stale', () => {
  it('ends its streams, ships what they owe, and serves no more', async () => {
    let isStale = false
    const gate = new Gate()
    const test = await TestHost.start({ isEpochStale: () => isStale, engine: { delay: gate.pass } })
    const stream = test.generate(createRequest({ max_tokens: 400 })).then(allEvents)
    gate.open(5)
    await until(() => expect(test.engine.steps).toBe(5))
    isStale = true
    expect(await test.host.lost).toBe('host_epoch_stale')
    gate.open()
    const events = await stream
    expect(events.at(-1)).toMatchObject({ type: 'error', code: 'host_draining' })
    await test.stop()
    expect(test.usage).toMatchObject([{ completion_tokens: tokensOf(events) }])
    expect(test.logs.map(({ message }) => message).join()).toMatch(/a newer start of it/)
    await expect(test.generate(createRequest())).rejects.toThrowError()
  })
})
