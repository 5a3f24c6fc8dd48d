import { afterEach, describe, expect, it } from 'vitest'
import type { StepBatch } from '../engine.ts'
import type { GenerateEvent } from '../protocol.ts'
import { collect, type RigOptions, SchedulerRig } from '../test/support/scheduler-rig.ts'
import type { AdapterScript } from '../test/support/scripted-adapters.ts'
import { type DiskCall, diskError, SimulatedDisk } from '../test/support/simulated-disk.ts'
import { createRequest } from '../test/support/test-host.ts'

const rigs: SchedulerRig[] = []
function build(options: RigOptions = {}): SchedulerRig {
  const rig = new SchedulerRig(options)
  rigs.push(rig)
  return rig
}
afterEach(async () => {
  for (const rig of rigs.splice(0)) await rig.dispose()
})

function adapter(digits: string, change: Partial<AdapterScript> = {}): [string, AdapterScript] {
  const payload = new TextEncoder().encode(digits)
  return [
    `sha256:${digits.repeat(64)}`,
    { payload, fetchMs: 1, loadMs: 1, fails: 'never', ...change },
  ]
}

const tokens = (length: number) => ({
  kind: 'tokens' as const,
  tokens: Array.from({ length }, () => 1),
})
const countChunks = (events: readonly GenerateEvent[]): number =>
  events.filter((event) => event.type === 'chunk').length

describe('Scheduler', () => {
  it('pauses only the request whose consumer does not read, and cuts it after the limit', async () => {
    const rig = build({ limits: { consumerStallMaxMs: 1000, eventsBufferedMax: 8 } })
    const stalled = rig.scheduler.submit(createRequest({ max_tokens: 400 }))
    const other = collect(rig.scheduler.submit(createRequest({ max_tokens: 300 })))
    await rig.clock.advance(900)
    expect(countChunks(other)).toBe(300)
    expect(rig.scheduler.load().sequencesRunning).toBe(1)
    await rig.clock.advance(300)
    expect(rig.scheduler.load().sequencesRunning).toBe(0)
    const seen = collect(stalled)
    await rig.clock.advance(1)
    // What nobody took is not owed, so it is not given away either.
    expect(countChunks(seen)).toBe(0)
    expect(seen.at(-1)).toMatchObject({ type: 'error', code: 'request_aborted' })
    expect(rig.usage()).toMatchObject([
      { finish_reason: 'length', completion_tokens: 300 },
      { finish_reason: 'abort', completion_tokens: 0 },
    ])
  })

  it('resumes a paused request, losing nothing, when its consumer reads again', async () => {
    const rig = build({ limits: { eventsBufferedMax: 8 } })
    const generation = rig.scheduler.submit(createRequest({ max_tokens: 60 }))
    await rig.clock.advance(500)
    const events = collect(generation)
    await rig.clock.advance(500)
    expect(countChunks(events)).toBe(60)
    expect(events.at(-1)).toMatchObject({ type: 'end', finish_reason: 'length' })
  })

  it('hears that its clients are gone before it goes on, after it was stopped for a while', async () => {
    let finishStep = (): void => {}
    let isHeld = true
    let begun = 0
    const rig = build({
      engine: {
        delay: () =>
          new Promise((resolve) => {
            finishStep = resolve
            if (!isHeld) resolve()
          }),
        onStep: () => {
          begun += 1
        },
        limits: { sequenceCount: 1 },
      },
    })
    const running = rig.scheduler.submit(createRequest({ max_tokens: 100 }))
    const queued = rig.scheduler.submit(createRequest())
    for (const generation of [running, queued]) collect(generation)
    await rig.clock.advance(1)
    finishStep()
    await rig.clock.advance(1)
    expect(begun).toBe(2)
    // Stopped within the second step; what the sockets say is heard after it.
    await rig.clock.advance(2000)
    setImmediate(() => {
      for (const generation of [running, queued]) generation.cancel()
    })
    finishStep()
    await rig.clock.advance(1)
    isHeld = false
    finishStep()
    await rig.scheduler.idle()
    expect(begun).toBe(2)
    expect(rig.usage()).toMatchObject([{ finish_reason: 'abort', completion_tokens: 1 }])
  })

  it('fetches cold adapters in fair order, whoever asked first', async () => {
    const digits = [...'23456789ab']
    const adapters = new Map([...digits, 'c'].map((digit) => adapter(digit, { fetchMs: 100 })))
    const rig = build({ adapters })
    for (const digit of digits) {
      const adapter_digest = `sha256:${digit.repeat(64)}`
      collect(rig.scheduler.submit(createRequest({ tenant_id: 'flood', adapter_digest })))
    }
    const adapter_digest = `sha256:${'c'.repeat(64)}`
    const victim = collect(
      rig.scheduler.submit(createRequest({ tenant_id: 'victim', adapter_digest })),
    )
    // Four of the flood are on their way; the victim's is next, not eleventh.
    await rig.clock.advance(250)
    expect(victim.at(-1)).toMatchObject({ type: 'end' })
  })

  it('loads the next adapter into a spare slot while no sequence is free', async () => {
    const [first, second] = [adapter('1'), adapter('2')]
    const rig = build({
      adapters: new Map([first, second]),
      engine: { limits: { sequenceCount: 1, slotCount: 2 } },
    })
    collect(rig.scheduler.submit(createRequest({ adapter_digest: first[0], max_tokens: 100 })))
    await rig.clock.advance(20)
    collect(rig.scheduler.submit(createRequest({ adapter_digest: second[0] })))
    await rig.clock.advance(20)
    expect(rig.scheduler.load()).toMatchObject({ sequencesRunning: 1, queueDepth: 1 })
    expect(rig.adapters.locate(second[0])).toBe('slot')
  })

  it('serves others while an adapter is on its way', async () => {
    const [slow, slowScript] = adapter('1', { fetchMs: 4000 })
    const rig = build({ adapters: new Map([[slow, slowScript]]) })
    const cold = collect(rig.scheduler.submit(createRequest({ adapter_digest: slow })))
    const warm = collect(rig.scheduler.submit(createRequest({ max_tokens: 20 })))
    await rig.clock.advance(200)
    expect(warm.at(-1)).toMatchObject({ type: 'end' })
    expect(cold).toHaveLength(1)
    await rig.clock.advance(4500)
    expect(cold.at(-1)).toMatchObject({ type: 'end', adapter_source: 'store' })
  })

  it('keeps streams going at every step while a long prompt is read', async () => {
    const batches: StepBatch[] = []
    const rig = build({ engine: { onStep: (batch) => batches.push(batch) } })
    collect(rig.scheduler.submit(createRequest({ max_tokens: 400, input: tokens(2) })))
    await rig.clock.advance(20)
    const before = batches.length
    collect(rig.scheduler.submit(createRequest({ max_tokens: 1, input: tokens(400) })))
    await rig.clock.advance(200)
    const mixed = batches.slice(before).filter((batch) => batch.tokens.length > 1)
    expect(mixed.length).toBeGreaterThanOrEqual(400 / 24)
    for (const batch of mixed) {
      expect(batch.sequences.filter((sequence) => sequence === batch.sequences[0])).toHaveLength(1)
      expect(batch.tokens.length).toBeLessThanOrEqual(1 + 24)
    }
  })

  it('lets a second tenant in soon, however long the line of the first is', async () => {
    const rig = build({ engine: { limits: { sequenceCount: 1 } } })
    const flood = Array.from({ length: 15 }, () =>
      collect(rig.scheduler.submit(createRequest({ tenant_id: 'ten_flood', max_tokens: 20 }))),
    )
    await rig.clock.advance(50)
    const victim = collect(rig.scheduler.submit(createRequest({ tenant_id: 'ten_b' })))
    for (let i = 0; i < 1000 && victim.at(-1)?.type !== 'end'; i++) await rig.clock.advance(5)
    const done = flood.filter((events) => events.at(-1)?.type === 'end').length
    // Those that were served before it came, the one that ran then, and at most one more turn.
    expect(done).toBeLessThanOrEqual(4)
  })

  it('gives a rare adapter its slot though popular ones never pause', async () => {
    const scripts = new Map([adapter('1'), adapter('2')])
    const [popular = '', rare = ''] = scripts.keys()
    const rig = build({
      adapters: scripts,
      engine: { limits: { slotCount: 1, sequenceCount: 4 } },
      limits: { queueWaitMaxMs: 60_000 },
    })
    let submitted = 0
    const submitPopular = (): void => {
      if (rig.scheduler.load().queueDepth > 3) return
      // Lengths differ, so that they never all end at once.
      const max_tokens = 20 + ((submitted++ * 13) % 40)
      const request = createRequest({ adapter_digest: popular, max_tokens })
      collect(rig.scheduler.submit(request))
    }
    const submitRare = () =>
      collect(rig.scheduler.submit(createRequest({ adapter_digest: rare, tenant_id: 'ten_b' })))
    for (let i = 0; i < 20; i++) {
      submitPopular()
      await rig.clock.advance(5)
    }
    const waiting = submitRare()
    for (let i = 0; i < 100 && waiting.at(-1)?.type !== 'end'; i++) {
      submitPopular()
      await rig.clock.advance(5)
    }
    expect(waiting.at(-1)).toMatchObject({ type: 'end', finish_reason: 'length' })
  })

  it('refuses a request that waited too long, and bills nothing for it', async () => {
    const rig = build({
      engine: { limits: { sequenceCount: 1, contextLength: 10_000 } },
      limits: { queueWaitMaxMs: 300 },
    })
    const first = collect(rig.scheduler.submit(createRequest({ max_tokens: 600 })))
    const second = collect(rig.scheduler.submit(createRequest()))
    await rig.clock.advance(400)
    expect(second.at(-1)).toMatchObject({ type: 'error', code: 'deadline_exceeded' })
    await rig.clock.advance(1000)
    expect(first.at(-1)).toMatchObject({ type: 'end' })
    expect(rig.usage()).toHaveLength(1)
  })

  it('sends nothing that the journal could not take', async () => {
    let isFull = false
    const fault = ({ op }: DiskCall): Error | null =>
      isFull && op === 'write' ? diskError('ENOSPC', op) : null
    const rig = build({ journal: { disk: new SimulatedDisk({ random: Math.random, fault }) } })
    const events = collect(rig.scheduler.submit(createRequest({ max_tokens: 100 })))
    await rig.clock.advance(20)
    const sent = countChunks(events)
    expect(sent).toBeGreaterThan(0)
    isFull = true
    await rig.clock.advance(50)
    expect(countChunks(events)).toBe(sent)
    expect(events.at(-1)).toMatchObject({
      type: 'error',
      code: 'journal_full',
      usage: { completion_tokens: sent },
    })
    expect(() => rig.scheduler.submit(createRequest())).toThrowError(
      expect.objectContaining({ code: 'journal_full' }),
    )
    isFull = false
    // The reserve is looked for once a second.
    await rig.clock.advance(1000)
    collect(rig.scheduler.submit(createRequest({ max_tokens: 1 })))
    await rig.clock.advance(20)
    expect(rig.usage().map((event) => event.completion_tokens)).toEqual([sent, 1])
  })

  it('tells whose grammar leads nowhere, and bills what it gave until then', async () => {
    const rig = build()
    const sampling = { ...createRequest().sampling, grammar: 'stuck' }
    const request = createRequest({ max_tokens: 50, input: tokens(5), sampling })
    const events = collect(rig.scheduler.submit(request))
    const other = collect(rig.scheduler.submit(createRequest({ max_tokens: 20 })))
    await rig.clock.advance(200)
    const usage = { prompt_tokens: 5, completion_tokens: 3 }
    const error = { type: 'error', code: 'invalid_request', param: 'grammar', usage }
    expect(events.at(-1)).toMatchObject(error)
    expect(other.at(-1)).toMatchObject({ type: 'end', finish_reason: 'length' })
  })

  it('refuses a second request with the id of a running one', async () => {
    const rig = build()
    const request = createRequest({ max_tokens: 50 })
    collect(rig.scheduler.submit(request))
    expect(() => rig.scheduler.submit(request)).toThrowError(
      expect.objectContaining({ code: 'request_duplicate' }),
    )
  })

  it('bills a client that leaves during prefill for the prompt rows that ran', async () => {
    const rig = build()
    const generation = rig.scheduler.submit(createRequest({ input: tokens(300) }))
    collect(generation)
    await rig.clock.advance(6)
    generation.cancel()
    await rig.clock.advance(10)
    const [event] = rig.usage()
    expect(event).toMatchObject({ finish_reason: 'abort', completion_tokens: 0, ttft_us: null })
    expect(event?.prompt_tokens).toBeGreaterThan(0)
    expect(event?.prompt_tokens).toBeLessThan(300)
  })

  it('shares the engine time of all steps out to the requests, to the microsecond', async () => {
    let engineUs = 0
    const stepUs = (rows: number): number => {
      const us = 1003 + rows * 37
      engineUs += us
      return us
    }
    const rig = build({ engine: { stepUs } })
    for (const max_tokens of [3, 17, 29]) {
      collect(rig.scheduler.submit(createRequest({ max_tokens })))
    }
    await rig.clock.advance(500)
    const events = rig.usage()
    expect(events).toHaveLength(3)
    expect(events.reduce((sum, event) => sum + event.gpu_us, 0)).toBe(engineUs)
  })

  describe('several choices of a request', () => {
    it('run beside each other, and are billed as one request with one prompt', async () => {
      const rig = build({ engine: { limits: { sequenceCount: 2 } } })
      const request = createRequest({ n: 5, max_tokens: 10, input: tokens(7) })
      const events = collect(rig.scheduler.submit(request))
      await rig.clock.advance(5)
      // More choices than sequences: the rest waits its turn.
      expect(rig.scheduler.load()).toMatchObject({ sequencesRunning: 2, queueDepth: 3 })
      await rig.clock.advance(500)
      const chunks = events.filter((event) => event.type === 'chunk')
      for (let choice = 0; choice < 5; choice++) {
        const own = chunks.filter((chunk) => chunk.choice === choice)
        expect(own.map((chunk) => chunk.finish_reason)).toEqual([...Array(9).fill(null), 'length'])
      }
      const usage = { prompt_tokens: 7, completion_tokens: 50 }
      expect(events.at(-1)).toMatchObject({ type: 'end', finish_reason: 'length', usage })
      expect(rig.usage()).toMatchObject([{ ...usage, request_id: request.request_id }])
      expect(rig.scheduler.load()).toMatchObject({ sequencesRunning: 0, queueDepth: 0 })
    })

    it('all end when the client leaves, billed to the token that was made', async () => {
      const rig = build({ engine: { limits: { sequenceCount: 2 } } })
      const generation = rig.scheduler.submit(createRequest({ n: 3, max_tokens: 400 }))
      const events = collect(generation)
      await rig.clock.advance(30)
      generation.cancel()
      await rig.clock.advance(10)
      const made = countChunks(events)
      expect(made).toBeGreaterThan(4)
      expect(rig.usage()).toMatchObject([{ finish_reason: 'abort', completion_tokens: made }])
      expect(rig.usage()).toMatchObject([{ prompt_tokens: '<user>hello<assistant>'.length }])
      expect(rig.scheduler.load()).toMatchObject({ sequencesRunning: 0, queueDepth: 0 })
    })

    it('all end when one fails', async () => {
      const rig = build({
        engine: { isNonFinite: (row) => row.length > 12 && String(row).endsWith(',122') },
      })
      const request = createRequest({
        n: 4,
        max_tokens: 400,
        input: tokens(2),
        sampling: { ...createRequest().sampling, temperature: 1, seed: 3 },
      })
      const events = collect(rig.scheduler.submit(request))
      await rig.clock.advance(2000)
      const made = countChunks(events)
      const usage = { prompt_tokens: 2, completion_tokens: made }
      expect(events.at(-1)).toMatchObject({ type: 'error', code: 'engine_failed', usage })
      expect(rig.usage()).toMatchObject([{ ...usage, finish_reason: 'error' }])
      expect(rig.engine.openSequences.size).toBe(0)
    })
  })
})
