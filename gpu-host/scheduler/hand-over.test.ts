import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { Journal } from '../journal/journal.ts'
import { CURSOR_START, readSettled } from '../journal/settled-reader.ts'
import type { GenerateEvent, GenerateRequest, UsageEvent } from '../protocol.ts'
import { expectedTokens } from '../test/support/fake-engine.ts'
import { collect, type RigOptions, SchedulerRig } from '../test/support/scheduler-rig.ts'
import { type DiskCall, diskError, SimulatedDisk } from '../test/support/simulated-disk.ts'
import { createRequest } from '../test/support/test-host.ts'
import type { Generation } from './request-runner.ts'

const rigs: SchedulerRig[] = []
function build(options: RigOptions = {}): SchedulerRig {
  const rig = new SchedulerRig(options)
  rigs.push(rig)
  return rig
}
afterEach(async () => {
  for (const rig of rigs.splice(0)) await rig.dispose()
})

const PROMPT = [...Buffer.from('<user>hello<assistant>')]

/** Takes events until it has `tokens`; the first is `accepted`. */
async function take(generation: Generation, tokens: number): Promise<GenerateEvent[]> {
  const events: GenerateEvent[] = []
  for (let taken = 0; taken < tokens; ) {
    const event = await generation.next()
    if (event === null) return events
    events.push(event)
    if (event.type === 'chunk') taken += event.tokens
  }
  return events
}

/** What the next start of a host that dies now would bill. */
function recovered(rig: SchedulerRig): readonly UsageEvent[] {
  const directory = mkdtempSync(join(tmpdir(), 'nozzle-crash-'))
  cpSync(rig.directory, directory, { recursive: true })
  const journal = new Journal({
    directory,
    hostId: 'hst_rig',
    clock: rig.clock,
    log: () => {},
    segmentBytesMax: 1e6,
    totalBytesMax: 1e9,
    retentionMs: 1e12,
    fsyncIntervalMs: 100,
    shippedSegment: 0,
  })
  journal.close()
  const { events } = readSettled(directory, CURSOR_START, 100)
  rmSync(directory, { recursive: true })
  return events
}

const countPinned = (rig: SchedulerRig) => ({
  sequences: rig.engine.openSequences.size,
  pages: rig.scheduler.kvPages.used,
  pins: rig.adapters.pins,
})
const NOTHING_PINNED = { sequences: 0, pages: 0, pins: 0 }

describe('a token is owed when its chunk is handed over', () => {
  it('in the one journal write of its step, where consumers keep up', async () => {
    let writes = 0
    const count = ({ op }: DiskCall): null => {
      if (op === 'write') writes += 1
      return null
    }
    const rig = build({
      journal: {
        disk: new SimulatedDisk({ random: Math.random, fault: count }),
        segmentBytesMax: 1e9,
      },
    })
    const before = writes
    const requests = [3, 17, 29].map((max_tokens) => createRequest({ max_tokens }))
    for (const request of requests) collect(rig.scheduler.submit(request))
    await rig.clock.advance(500)
    expect(rig.usage().map((event) => event.completion_tokens)).toEqual([3, 17, 29])
    expect(writes - before).toBe(rig.engine.steps + requests.length)
  })

  it('one by one to a consumer that is behind, and the rest to nobody', async () => {
    const rig = build({ limits: { eventsBufferedMax: 4 } })
    const generation = rig.scheduler.submit(createRequest({ max_tokens: 100 }))
    for (const taken of [0, 1, 2, 3, 7]) {
      const before = recovered(rig)[0]?.completion_tokens ?? 0
      await take(generation, taken - before)
      await rig.clock.advance(100)
      expect(recovered(rig)[0]?.completion_tokens ?? 0).toBe(taken)
    }
    // Four more are drawn for a consumer that may come back, no more.
    expect(rig.engine.steps).toBeLessThanOrEqual(7 + 4)
    const { steps } = rig.engine
    generation.cancel()
    await rig.clock.advance(10)
    expect(rig.engine.steps).toBe(steps)
    expect(rig.usage()).toMatchObject([{ finish_reason: 'abort', completion_tokens: 7 }])
    expect(countPinned(rig)).toEqual(NOTHING_PINNED)
  })

  it.each([1, 3])('and its request is settled with the last, n = %i', async (n) => {
    const rig = build()
    const generation = rig.scheduler.submit(createRequest({ max_tokens: 2, n }))
    await rig.clock.advance(100)
    // The engine is done with it, the client is not.
    expect(countPinned(rig)).toEqual(NOTHING_PINNED)
    expect(rig.scheduler.load().sequencesRunning).toBe(0)
    await take(generation, 2 * n - 1)
    await rig.clock.advance(100)
    expect(rig.usage()).toEqual([])
    expect(await generation.next()).toMatchObject({ type: 'chunk', finish_reason: 'length' })
    expect(rig.usage()).toMatchObject([{ finish_reason: 'length', completion_tokens: 2 * n }])
    const usage = { completion_tokens: 2 * n }
    expect(await generation.next()).toMatchObject({ type: 'end', usage })
    expect(await generation.next()).toBeNull()
    generation.cancel()
    await rig.clock.advance(10)
    expect(rig.usage()).toHaveLength(1)
  })

  it('of all choices, though the last of them come in one step to one that waits', async () => {
    const rig = build()
    const events = collect(rig.scheduler.submit(createRequest({ max_tokens: 2, n: 3 })))
    await rig.clock.advance(100)
    expect(rig.usage()).toMatchObject([{ finish_reason: 'length', completion_tokens: 6 }])
    expect(events.filter(({ type }) => type === 'chunk')).toHaveLength(6)
  })

  it('so a reply that is given in one piece, and breaks off, owes its prompt alone', async () => {
    const rig = build()
    const generation = rig.scheduler.submit(createRequest({ max_tokens: 100, is_whole: true }))
    const taken = take(generation, 5)
    await rig.clock.advance(100)
    await taken
    generation.cancel()
    await rig.clock.advance(10)
    const owed = { finish_reason: 'abort', completion_tokens: 0, prompt_tokens: PROMPT.length }
    expect(rig.usage()).toMatchObject([owed])
    collect(rig.scheduler.submit(createRequest({ max_tokens: 5, is_whole: true })))
    await rig.clock.advance(100)
    expect(rig.usage()[1]).toMatchObject({ finish_reason: 'length', completion_tokens: 5 })
  })

  it('so a client that leaves before the last chunk owes what it took', async () => {
    const rig = build()
    const generation = rig.scheduler.submit(createRequest({ max_tokens: 5 }))
    await rig.clock.advance(100)
    await take(generation, 3)
    generation.cancel()
    await rig.clock.advance(100)
    const owed = { finish_reason: 'abort', completion_tokens: 3, prompt_tokens: PROMPT.length }
    expect(rig.usage()).toMatchObject([owed])
    expect(rig.journal.openCount).toBe(0)
    expect(await generation.next()).toMatchObject({ type: 'end', finish_reason: 'abort' })
  })

  it('so a client that never comes for the last chunk is given up', async () => {
    const rig = build({ limits: { consumerStallMaxMs: 1000 } })
    rig.scheduler.submit(createRequest({ max_tokens: 2 }))
    await rig.clock.advance(900)
    expect(rig.usage()).toEqual([])
    await rig.clock.advance(300)
    expect(rig.usage()).toMatchObject([{ finish_reason: 'abort', completion_tokens: 0 }])
    await rig.scheduler.idle()
  })

  it('so text that a stop string may hide is not owed before it is shown', async () => {
    const text = String.fromCharCode(...expectedTokens(null, PROMPT, { tokensMax: 12 }))
    const rig = build()
    // Held back from the fourth token on, and from the seventh: their last characters never come.
    const stop = [`${text.slice(3, 6)}!`, `${text.slice(6, 11)}!`]
    const request = createRequest({ max_tokens: 12, stop })
    const events = collect(rig.scheduler.submit(request))
    await rig.clock.advance(100)
    const chunks = events.filter((event) => event.type === 'chunk')
    expect(chunks.map(({ text: shown }) => shown).join('')).toBe(text)
    for (const chunk of chunks) expect(chunk.tokens).toBe(chunk.text.length)
    expect(Math.max(...chunks.map(({ tokens }) => tokens))).toBeGreaterThanOrEqual(5)

    const left = rig.scheduler.submit({ ...request, request_id: 'req_left' })
    let next: Promise<GenerateEvent | null> | null = null
    void take(left, 3).then(() => {
      next = left.next()
    })
    while (next === null) await rig.clock.advance(1)
    await rig.clock.advance(3)
    left.cancel()
    await rig.clock.advance(100)
    expect(await next).toMatchObject({ type: 'end', usage: { completion_tokens: 3 } })
    expect(rig.usage()).toMatchObject([{ completion_tokens: 12 }, { completion_tokens: 3 }])
  })

  it('or not at all, where the journal cannot take it', async () => {
    let isFull = false
    const fault = ({ op }: DiskCall): Error | null =>
      isFull && op === 'write' ? diskError('ENOSPC', op) : null
    const rig = build({ journal: { disk: new SimulatedDisk({ random: Math.random, fault }) } })
    const generation = rig.scheduler.submit(createRequest({ max_tokens: 4 }))
    await rig.clock.advance(100)
    await take(generation, 2)
    isFull = true
    const next = generation.next()
    await rig.clock.advance(100)
    const usage = { completion_tokens: 2 }
    expect(await next).toMatchObject({ type: 'error', code: 'journal_full', usage })
    isFull = false
    collect(rig.scheduler.submit(createRequest({ max_tokens: 1 })))
    await rig.clock.advance(100)
    expect(rig.usage().map((event) => event.completion_tokens)).toEqual([2, 1])
  })
})

describe('what the edge says of a client that left', () => {
  const cancelOf = ({ request_id, attempt }: GenerateRequest, delivered_tokens: number) => ({
    request_id,
    attempt,
    delivered_tokens,
  })

  it.each([
    [2, 2],
    [5, 5],
    [99, 5],
  ])('bounds what is owed: %i of 5 delivered', async (delivered, owed) => {
    const rig = build()
    const request = createRequest({ max_tokens: 100 })
    const generation = rig.scheduler.submit(request)
    const taken = take(generation, 5)
    await rig.clock.advance(100)
    await taken
    expect(rig.scheduler.cancel(cancelOf(request, delivered))).toBe('ending')
    generation.cancel()
    await rig.clock.advance(10)
    expect(rig.usage()).toMatchObject([{ finish_reason: 'abort', completion_tokens: owed }])
    expect(countPinned(rig)).toEqual(NOTHING_PINNED)
  })

  it('corrects a request that was settled at more, once, under the next attempt', async () => {
    const rig = build()
    const request = createRequest({ max_tokens: 10 })
    collect(rig.scheduler.submit(request))
    await rig.clock.advance(100)
    expect(rig.scheduler.cancel(cancelOf(request, 10))).toBe('settled')
    expect(rig.scheduler.cancel(cancelOf(request, 4))).toBe('corrected')
    expect(rig.scheduler.cancel(cancelOf(request, 4))).toBe('settled')
    expect(rig.usage()).toMatchObject([
      { attempt: 1, completion_tokens: 10, finish_reason: 'length' },
      { attempt: 2, completion_tokens: 4, finish_reason: 'abort', prompt_tokens: PROMPT.length },
    ])
    expect(rig.usage()[1]?.gpu_us).toBe(rig.usage()[0]?.gpu_us)
  })

  it('means this attempt alone', async () => {
    const rig = build()
    const request = createRequest({ max_tokens: 10, attempt: 3 })
    const events = collect(rig.scheduler.submit(request))
    await rig.clock.advance(5)
    expect(rig.scheduler.cancel({ ...cancelOf(request, 0), attempt: 2 })).toBe('settled')
    await rig.clock.advance(100)
    expect(events.at(-1)).toMatchObject({ type: 'end', finish_reason: 'length' })
    expect(rig.scheduler.cancel({ ...cancelOf(request, 0), attempt: 2 })).toBe('settled')
    expect(rig.usage()).toMatchObject([{ attempt: 3, completion_tokens: 10 }])
  })
})

describe('attempts at a request', () => {
  const duplicate = expect.objectContaining({ code: 'request_duplicate' })

  it('run in rising order, each once', async () => {
    const rig = build()
    const request = createRequest({ max_tokens: 3, attempt: 2 })
    collect(rig.scheduler.submit(request))
    for (const attempt of [1, 2]) {
      expect(() => rig.scheduler.submit({ ...request, attempt })).toThrowError(duplicate)
    }
    await rig.clock.advance(100)
    for (const attempt of [1, 2]) {
      expect(() => rig.scheduler.submit({ ...request, attempt })).toThrowError(duplicate)
    }
    collect(rig.scheduler.submit({ ...request, attempt: 3 }))
    await rig.clock.advance(100)
    expect(rig.usage().map(({ attempt }) => attempt)).toEqual([2, 3])
  })

  it('end the older one, which nobody waits for', async () => {
    const rig = build()
    const request = createRequest({ max_tokens: 300 })
    const first = collect(rig.scheduler.submit(request))
    await rig.clock.advance(20)
    const second = collect(rig.scheduler.submit({ ...request, attempt: 2, max_tokens: 5 }))
    await rig.clock.advance(100)
    expect(first.at(-1)).toMatchObject({ type: 'end', finish_reason: 'abort' })
    expect(second.at(-1)).toMatchObject({ type: 'end', finish_reason: 'length' })
    expect(rig.usage()).toMatchObject([
      { attempt: 1, finish_reason: 'abort' },
      { attempt: 2, completion_tokens: 5 },
    ])
  })

  it('that were given up before they came are refused', () => {
    const rig = build()
    const request = createRequest()
    const { request_id } = request
    expect(rig.scheduler.cancel({ request_id, attempt: 1, delivered_tokens: 0 })).toBe('settled')
    expect(() => rig.scheduler.submit(request)).toThrowError(duplicate)
  })

  it('that were refused may come again', async () => {
    const rig = build({ limits: { queueDepthMax: 1 }, engine: { limits: { sequenceCount: 1 } } })
    collect(rig.scheduler.submit(createRequest({ max_tokens: 50 })))
    await rig.clock.advance(10)
    collect(rig.scheduler.submit(createRequest()))
    const request = createRequest()
    const full = expect.objectContaining({ code: 'queue_full' })
    expect(() => rig.scheduler.submit(request)).toThrowError(full)
    await rig.clock.advance(200)
    const events = collect(rig.scheduler.submit(request))
    await rig.clock.advance(100)
    expect(events.at(-1)).toMatchObject({ type: 'end' })
  })
})
