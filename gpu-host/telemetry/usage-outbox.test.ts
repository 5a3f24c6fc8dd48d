import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import type { Journal } from '../journal/journal.ts'
import { segmentPath } from '../journal/segment.ts'
import { placeCursor, readShippedCursor } from '../journal/shipped-cursor.ts'
import { usageBatch } from '../protocol.ts'
import { JournalRig, opened, progress, settled } from '../test/support/journal-records.ts'
import { createRandom } from '../test/support/random.ts'
import { diskError, SimulatedDisk } from '../test/support/simulated-disk.ts'
import { EdgeClient } from './edge-client.ts'
import { createMetrics } from './metrics.ts'
import { UsageOutbox } from './usage-outbox.ts'

/** A host's journal and outbox over several lives, and the edge that takes what it ships. */
class Shipping {
  readonly rig: JournalRig
  /** Every event that arrived, as often as it did. */
  readonly arrived: string[] = []
  isEdgeAway = false
  journal: Journal
  outbox: UsageOutbox

  constructor(disk?: SimulatedDisk) {
    this.rig = new JournalRig(disk)
    ;[this.journal, this.outbox] = this.#start()
  }

  restart(): void {
    ;[this.journal, this.outbox] = this.#start()
  }

  /** One request, opened and settled. */
  settle(n: number): void {
    this.journal.append([opened(n), progress(n, 3, 2), settled(n, 2)])
  }

  #start(): [Journal, UsageOutbox] {
    const { rig } = this
    const { disk, directory } = rig
    const log = (level: string, message: string): unknown => rig.logged.push(`${level}: ${message}`)
    const shipped = readShippedCursor(disk, directory, log)
    const journal = rig.open({ segmentBytesMax: 1500, shippedSegment: shipped.segment })
    const edge = new EdgeClient({
      edgeUrl: 'http://edge.invalid',
      poolSecret: new TextEncoder().encode('a pool secret that is long enough to be one'),
      clock: rig.clock,
      fetch: async (_, init) => {
        if (this.isEdgeAway) throw new Error('the edge is away')
        const { events } = usageBatch.parse(JSON.parse(String(init?.body)))
        this.arrived.push(...events.map(({ request_id }) => request_id))
        return Response.json({ inserted: events.length, known: 0 })
      },
    })
    const outbox = new UsageOutbox(
      {
        directory,
        disk,
        hostId: 'hst_test',
        edge,
        metrics: createMetrics({ withProcess: false }),
        clock: rig.clock,
        log,
        durable: () => journal.durable,
        onShipped: (segment) => journal.setShippedSegment(segment),
      },
      placeCursor(shipped, { disk, directory, recovery: journal.recovery, log }),
    )
    return [journal, outbox]
  }
}

let shipping: Shipping
beforeEach(() => {
  shipping = new Shipping()
})
const requests = (count: number): string[] => Array.from({ length: count }, (_, n) => `req_${n}`)

describe('usage outbox', () => {
  it('ships nothing that a power loss could take back', async () => {
    shipping.settle(0)
    expect(await shipping.outbox.shipOnce()).toBe('empty')
    shipping.journal.flushSync()
    shipping.settle(1)
    expect(await shipping.outbox.flush()).toBe(true)
    expect(shipping.arrived).toEqual(['req_0'])
    await shipping.rig.clock.advance(100)
    await shipping.outbox.flush()
    expect(shipping.arrived).toEqual(['req_0', 'req_1'])
  })

  it('ships each event once over rotations and restarts', async () => {
    for (let n = 0; n < 20; n++) {
      shipping.settle(n)
      if (n % 3 === 0) shipping.journal.flushSync()
      if (n % 4 === 0) await shipping.outbox.flush()
      if (n % 7 === 0) shipping.restart()
    }
    shipping.journal.flushSync()
    await shipping.outbox.flush()
    expect(shipping.arrived).toEqual(requests(20))
  })

  it('goes back, never ahead, for each flipped bit of its cursor', async () => {
    for (let n = 0; n < 6; n++) shipping.settle(n)
    shipping.journal.flushSync()
    await shipping.outbox.flush()
    const path = join(shipping.rig.directory, 'shipped.json')
    const bytes = shipping.rig.disk.readFile(path)
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes)
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      shipping.rig.disk.writeFile(path, flipped)
      expect(readShippedCursor(shipping.rig.disk, shipping.rig.directory, () => {})).toEqual({
        segment: 0,
        offset: 0,
      })
    }
    shipping.arrived.length = 0
    shipping.restart()
    expect(shipping.rig.logged.join()).toMatch(/all of the journal is sent again/)
    await shipping.outbox.flush()
    expect(shipping.arrived).toEqual(requests(6))
  })

  it('skips no event when the segment of its cursor is salvaged, cut off or lost', async () => {
    const { rig } = shipping
    for (const spoil of ['salvage', 'cut', 'lose'] as const) {
      shipping.settle(0)
      shipping.journal.flushSync()
      await shipping.outbox.flush()
      const cursor = readShippedCursor(rig.disk, rig.directory, () => {})
      const path = segmentPath(rig.directory, cursor.segment)
      const bytes = rig.disk.readFile(path)
      if (spoil === 'lose') rig.disk.unlink(path)
      else if (spoil === 'cut') rig.disk.writeFile(path, bytes.subarray(0, cursor.offset - 5))
      else rig.disk.writeFile(path, Buffer.from(bytes.toString().replace('"opened"', '"openeD"')))
      shipping.restart()
      shipping.settle(1)
      shipping.journal.flushSync()
      shipping.arrived.length = 0
      await shipping.outbox.flush()
      expect(shipping.arrived, spoil).toContain('req_1')
      expect(rig.alarms()).toMatch(spoil === 'salvage' ? /damaged/ : /before what was shipped/)
      rig.logged.length = 0
    }
  })

  it('keeps its place when the cursor cannot be written, and ships on', async () => {
    const { rig } = shipping
    shipping.settle(0)
    shipping.journal.flushSync()
    rig.disk.fault = ({ op, path }) =>
      path.includes('shipped') && op !== 'stat' ? diskError('ENOSPC', op) : null
    await shipping.outbox.shipOnce()
    rig.disk.fault = () => null
    shipping.settle(1)
    shipping.journal.flushSync()
    await shipping.outbox.flush()
    expect(shipping.arrived).toEqual(['req_0', 'req_1'])
  })

  it('ships everything at least once over power losses at any moment', async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = createRandom(seed)
      shipping = new Shipping(new SimulatedDisk({ random }))
      const { rig } = shipping
      let count = 0
      for (let life = 0; life < 4; life++) {
        const end = count + Math.floor(random() * 6)
        for (; count < end; count++) {
          shipping.settle(count)
          await rig.clock.advance(random() * 80)
          shipping.isEdgeAway = random() < 0.3
          await shipping.outbox.shipOnce()
        }
        rig.disk.powerLoss()
        shipping.restart()
      }
      shipping.isEdgeAway = false
      await shipping.outbox.flush()
      // What arrived is what the journal holds: nothing else was ever told.
      const held = new Set(rig.settledEvents().map(({ request_id }) => request_id))
      expect(new Set(shipping.arrived)).toEqual(held)
    }
  })
})
