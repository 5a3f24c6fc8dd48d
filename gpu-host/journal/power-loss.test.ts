/**
 * The death of the machine: what was not fsynced is lost, kept or torn, page by page. Whatever the
 * journal called durable is there afterwards, nothing is billed beyond what was written, and what a
 * failed fsync left is never told to anybody.
 */
import { describe, expect, it } from 'vitest'
import { JournalRig, opened, progress, settled, started } from '../test/support/journal-records.ts'
import { createRandom } from '../test/support/random.ts'
import { diskError, SimulatedDisk } from '../test/support/simulated-disk.ts'
import type { Journal } from './journal.ts'
import { CURSOR_START, readSettled } from './settled-reader.ts'

const SEEDS = 100
const STEPS = 40

/** Made-up traffic, and what became of each request. */
class Traffic {
  readonly rig: JournalRig
  /** Tokens written per request; settled ones too. */
  readonly tokens = new Map<string, number>()
  /** Settled events that the journal called durable. */
  readonly durable = new Set<string>()
  readonly #random: () => number
  #running: number[] = []
  #requests = 0

  constructor(rig: JournalRig, random: () => number) {
    this.rig = rig
    this.#random = random
  }

  /** One step of a host: a request more, progress of all, perhaps an end. */
  step(journal: Journal): void {
    if (this.#running.length < 3) {
      const n = this.#requests++
      journal.append([opened(n)])
      this.#running.push(n)
      this.tokens.set(`req_${n}`, 0)
    }
    const records = this.#running.map((n) => {
      const count = (this.tokens.get(`req_${n}`) ?? 0) + 1
      this.tokens.set(`req_${n}`, count)
      return progress(n, 3, count)
    })
    if (this.#random() < 0.3) {
      const n = this.#running.shift() ?? 0
      records.push(settled(n, this.tokens.get(`req_${n}`) ?? 0))
    }
    journal.append(records)
  }

  /** As the outbox reads: what it finds may be acknowledged, and is relied upon. */
  ship(journal: Journal): void {
    const { disk, directory } = this.rig
    const page = readSettled(directory, CURSOR_START, 1e6, { disk, until: journal.durable })
    for (const { request_id } of page.events) this.durable.add(request_id)
  }

  /** A new life: handles begin anew, and what was open has ended. */
  startAnew(): void {
    this.#running = []
  }

  check(): void {
    const events = new Map(this.rig.settledEvents().map((event) => [event.request_id, event]))
    for (const id of this.durable) expect(events.has(id), id).toBe(true)
    for (const [id, event] of events) {
      expect(event.completion_tokens, id).toBeLessThanOrEqual(this.tokens.get(id) ?? -1)
    }
  }
}

describe('power loss', () => {
  it(`at ${SEEDS} seeded moments takes nothing that was durable, and bills nothing that was not written`, async () => {
    let durable = 0
    let lost = 0
    for (let seed = 1; seed <= SEEDS; seed++) {
      const random = createRandom(seed)
      const rig = new JournalRig(new SimulatedDisk({ random }))
      const traffic = new Traffic(rig, random)
      for (let life = 0; life < 2; life++) {
        const journal = rig.open({ segmentBytesMax: 2000 })
        const steps = Math.floor(random() * STEPS)
        for (let step = 0; step < steps; step++) {
          traffic.step(journal)
          await rig.clock.advance(random() * 60)
          traffic.ship(journal)
        }
        rig.disk.powerLoss()
        traffic.startAnew()
        rig.open({ segmentBytesMax: 2000 })
        traffic.check()
      }
      durable += traffic.durable.size
      lost += traffic.tokens.size - rig.settledEvents().length
    }
    // Not vacuous: there was something to keep, and something was lost.
    expect(durable).toBeGreaterThan(SEEDS)
    expect(lost).toBeGreaterThan(0)
  })

  it('costs what the last 100 ms wrote, and no more', async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const rig = new JournalRig(new SimulatedDisk({ random: createRandom(seed) }))
      const journal = rig.open()
      journal.append([opened(0), started(0)])
      for (let tokens = 1; tokens <= 60; tokens++) {
        journal.append([progress(0, 3, tokens)])
        await rig.clock.advance(10)
      }
      rig.disk.powerLoss()
      rig.open()
      // A token each 10 ms; the first write of a group waits longest.
      expect(rig.settledEvents()[0]?.completion_tokens).toBeGreaterThanOrEqual(60 - 11)
    }
  })
})

describe('an fsync that fails', () => {
  /** A journal with one durable request, whose next fsync fails. */
  async function fail() {
    const rig = new JournalRig(new SimulatedDisk({ random: () => 0 }))
    const failures: Error[] = []
    const journal = rig.open({ onFailed: (error) => failures.push(error) })
    journal.append([opened(0), settled(0, 1), opened(1)])
    await rig.clock.advance(100)
    const { durable } = journal
    let isFailing = true
    rig.disk.fault = ({ op }) => {
      if (!isFailing || !op.startsWith('fsync')) return null
      isFailing = false
      return diskError('EIO', op)
    }
    journal.append([progress(1, 3, 4), settled(1, 4), opened(2), progress(2, 3, 2)])
    return { rig, journal, failures, durable }
  }

  it('ends the journal for good: told once, nothing taken, nothing durable any more', async () => {
    const { rig, journal, failures, durable } = await fail()
    await rig.clock.advance(100)
    expect(failures).toMatchObject([{ code: 'EIO' }])
    const failed = expect.objectContaining({ code: 'journal_failed' })
    expect(() => journal.append([settled(2, 2)])).toThrowError(failed)
    expect(() => journal.assertRoom()).toThrowError(failed)
    expect(() => journal.flushSync()).toThrowError(failed)
    await rig.clock.advance(1000)
    expect(journal.durable).toEqual(durable)
    expect(failures).toHaveLength(1)
    journal.close()
  })

  it('is final where a rotation or the end of the host asks for it', async () => {
    const { rig, journal, failures } = await fail()
    expect(() => journal.close()).toThrowError(expect.objectContaining({ code: 'EIO' }))
    await rig.clock.advance(0)
    expect(failures).toHaveLength(1)
    // The lock is free all the same.
    rig.open()
  })

  it('loses to the next start what only the cache held, or that start makes it durable', async () => {
    const { rig } = await fail()
    await rig.clock.advance(100)
    // The process dies; the cache still has what the platters have not.
    const next = rig.open()
    const told = readSettled(rig.directory, CURSOR_START, 100, {
      disk: rig.disk,
      until: next.durable,
    }).events
    expect(told.map(({ request_id }) => request_id)).toEqual(['req_0', 'req_1', 'req_2'])
    rig.disk.powerLoss()
    rig.open()
    expect(rig.settledEvents()).toEqual(told)
  })
})

describe('a slow fsync', () => {
  it('covers what was written before it began, in order, over a rotation', async () => {
    const waiting: (() => void)[] = []
    const disk = new SimulatedDisk({ random: () => 0.9, defer: (run) => waiting.push(run) })
    const rig = new JournalRig(disk)
    const journal = rig.open({ segmentBytesMax: 400 })
    journal.append([opened(0)])
    const { offset } = journal.durable
    await rig.clock.advance(100)
    journal.append([opened(1)])
    expect(journal.durable).toMatchObject({ segment: 0, offset })
    const reached: string[] = []
    while (waiting.length > 0) {
      waiting.shift()?.()
      reached.push(`${journal.durable.segment}`)
      await rig.clock.advance(100)
    }
    expect(reached).toEqual([...reached].sort())
    expect(journal.durable.segment).toBeGreaterThan(0)
    disk.powerLoss()
    rig.open()
    expect(rig.alarms()).toBe('')
  })
})
