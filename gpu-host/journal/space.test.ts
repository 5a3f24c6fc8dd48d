/** A journal whose disk fills up or fails: no record is lost, and it goes on when there is room. */
import { beforeEach, describe, expect, it } from 'vitest'
import { JournalRig, opened, progress, settled, started } from '../test/support/journal-records.ts'
import { type DiskFault, diskError } from '../test/support/simulated-disk.ts'
import type { Journal } from './journal.ts'
import type { JournalRecord } from './record.ts'
import { listSegments, scanSegment, segmentPath } from './segment.ts'

let rig: JournalRig
beforeEach(() => {
  rig = new JournalRig()
})

const full = expect.objectContaining({ code: 'journal_full' })

/** What the journal holds of requests, as text; heads are its own business. */
function written(): string[] {
  return listSegments(rig.disk, rig.directory).flatMap((index) => {
    const scan = scanSegment(rig.disk.readFile(segmentPath(rig.directory, index)))
    expect(scan).toMatchObject({ damaged: false, tornBytes: 0 })
    return scan.records.filter(({ record }) => record.t !== 'segment').map(toText)
  })
}

function toText({ record }: { readonly record: JournalRecord }): string {
  return JSON.stringify(record)
}

/** Appends one after the other; returns the records that the journal took. */
function appendAll(journal: Journal, batches: readonly (readonly JournalRecord[])[]): string[] {
  return batches.flatMap((records) => {
    try {
      journal.append(records)
      return records.map((record) => toText({ record }))
    } catch (error) {
      expect(error).toMatchObject({ code: 'journal_full' })
      return []
    }
  })
}

/** Eight requests, over several segments. */
const SCRIPT: readonly (readonly JournalRecord[])[] = Array.from({ length: 8 }, (_, n) => [
  [opened(n)],
  [started(n), progress(n, 3, 1)],
  [progress(n, 3, 2), settled(n, 2)],
]).flat()

describe('a call of the disk that fails', () => {
  /** Runs the script with `fault`; returns the calls that it made. */
  function run(fault: DiskFault): number {
    rig = new JournalRig()
    const journal = rig.open({ segmentBytesMax: 900, shippedSegment: 1 })
    const before = rig.disk.calls
    // A failed fsync is the end of a journal, and has its own tests.
    rig.disk.fault = (call) =>
      call.op.startsWith('fsync') ? null : fault({ ...call, number: call.number - before })
    const taken = appendAll(journal, SCRIPT)
    const calls = rig.disk.calls - before
    rig.disk.fault = () => null
    // Without a restart: the very next append is taken, behind all that was.
    taken.push(...appendAll(journal, [[opened(99)], [settled(99, 1)]]))
    expect(written()).toEqual(taken)
    expect(listSegments(rig.disk, rig.directory).length).toBeGreaterThan(3)
    rig.open()
    expect(rig.alarms()).not.toMatch(/damaged|missing|torn/)
    expect(written().slice(0, taken.length)).toEqual(taken)
    return calls
  }

  const calls = run(() => null)

  it.each(['ENOSPC', 'EDQUOT', 'EIO'])('with %s, at each call, loses no other record', (code) => {
    expect(calls).toBeGreaterThan(SCRIPT.length)
    for (let call = 0; call < calls; call++) {
      run(({ op, number }) => (number === call ? diskError(code, op) : null))
    }
  })

  it('and fails for a while, so that what was torn stays for a while, loses no other record', () => {
    for (let call = 0; call < calls; call++) {
      run(({ op, number }) => (number >= call && number < call + 5 ? diskError('EIO', op) : null))
    }
  })
})

describe('a disk that fills up', () => {
  it('at each of its bytes takes whole records or none, and settles what is open from the reserve', () => {
    const size = 6000
    for (let free = 0; free < size; free += 37) {
      rig = new JournalRig()
      const journal = rig.open({ reserveBytes: 8000 })
      journal.append([opened(0), opened(1)])
      rig.disk.capacityBytes = usedBytes() + free
      const taken: JournalRecord[] = []
      try {
        for (let tokens = 1; ; tokens++) {
          journal.append([progress(0, 3, tokens), progress(1, 3, tokens)])
          taken.push(progress(0, 3, tokens))
        }
      } catch (error) {
        expect(error).toMatchObject({ code: 'journal_full' })
      }
      journal.append([settled(0, taken.length)])
      journal.append([settled(1, taken.length)])
      expect(() => journal.assertRoom()).toThrowError(full)
      expect(rig.settledEvents().map((event) => event.completion_tokens)).toEqual([
        taken.length,
        taken.length,
      ])
    }
  })

  it('takes nothing while the rest of a torn write cannot be cut off', () => {
    const journal = rig.open()
    journal.append([opened(0)])
    rig.disk.capacityBytes = usedBytes() + 20
    rig.disk.fault = ({ op }) => (op === 'truncate' ? diskError('EIO', op) : null)
    expect(() => journal.append([progress(0, 3, 1)])).toThrowError(full)
    rig.disk.capacityBytes += 100_000
    expect(() => journal.append([progress(0, 3, 1)])).toThrowError(full)
    rig.disk.fault = () => null
    journal.append([progress(0, 3, 1)])
    expect(written()).toHaveLength(2)
  })

  it('refuses requests until there is room again, and then holds room back anew', async () => {
    const journal = rig.open({ reserveBytes: 8000 })
    journal.append([opened(0)])
    rig.disk.capacityBytes = usedBytes()
    expect(() => journal.append([progress(0, 3, 1)])).toThrowError(full)
    journal.append([settled(0, 0)])
    expect(rig.alarms()).toMatch(/error: journal reserve given up/)
    expect(() => journal.assertRoom()).toThrowError(full)
    rig.disk.capacityBytes += 100_000
    await rig.clock.advance(1000)
    journal.assertRoom()
    expect(rig.disk.stat(`${rig.directory}/reserve`).size).toBe(8000)
    journal.append([opened(1), progress(1, 3, 1), settled(1, 1)])
    expect(rig.settledEvents()).toHaveLength(2)
  })

  it('closes what a crash left open, though not a byte is free at the start', () => {
    rig.open({ reserveBytes: 20_000 }).append([opened(0), started(0), progress(0, 3, 5)])
    rig.disk.capacityBytes = usedBytes()
    const journal = rig.open({ reserveBytes: 20_000 })
    expect(rig.settledEvents()).toMatchObject([{ completion_tokens: 5, source: 'recovered' }])
    expect(() => journal.assertRoom()).toThrowError(full)
  })

  it('gives shipped segments up before the reserve', () => {
    const journal = rig.open({ segmentBytesMax: 500 })
    for (let n = 0; n < 6; n++) journal.append([opened(n), settled(n, 1)])
    journal.setShippedSegment(4)
    rig.disk.capacityBytes = usedBytes()
    journal.append([opened(6), progress(6, 3, 1)])
    expect(listSegments(rig.disk, rig.directory)[0]).toBe(4)
    expect(rig.alarms()).toBe('')
  })

  it('raises the alarm of its bound once, and takes it back once', async () => {
    rig.disk.capacityBytes = 1_000_000
    const journal = rig.open({ freeBytesMin: 500_000 })
    const useFor = async (seconds: number): Promise<void> => {
      for (let second = 0; second < seconds; second++) {
        journal.append([progress(0, 3, 1)])
        await rig.clock.advance(1000)
      }
    }
    journal.append([opened(0)])
    await useFor(3)
    expect(rig.alarms()).toBe('')
    rig.disk.capacityBytes = usedBytes() + 400_000
    await useFor(5)
    expect(rig.alarms().match(/nearly full/g)).toHaveLength(1)
    rig.disk.capacityBytes += 1_000_000
    await useFor(3)
    expect(rig.logged.join().match(/has room again/g)).toHaveLength(1)
  })

  function usedBytes(): number {
    return rig.disk
      .list(rig.directory)
      .reduce((sum, name) => sum + rig.disk.stat(`${rig.directory}/${name}`).size, 0)
  }
})

describe('the spool', () => {
  it('refuses requests when full, and removes only what is shipped', () => {
    const journal = rig.open({ segmentBytesMax: 500, totalBytesMax: 4000 })
    for (let n = 0; n < 7; n++) journal.append([opened(n), settled(n, 1)])
    expect(() => journal.assertRoom()).toThrowError(full)
    expect(rig.settledEvents()).toHaveLength(7)
    journal.setShippedSegment(4)
    journal.assertRoom()
    expect(listSegments(rig.disk, rig.directory)[0]).toBeGreaterThan(0)
    expect(rig.settledEvents().length).toBeGreaterThanOrEqual(3)
    expect(journal.bytes).toBeLessThan(4000)
  })

  it('counts what settling the open requests will take', () => {
    const journal = rig.open({ totalBytesMax: 20_000 })
    let count = 0
    try {
      for (; count < 1000; count++) {
        journal.assertRoom()
        journal.append([opened(count)])
      }
    } catch (error) {
      expect(error).toMatchObject({ code: 'journal_full' })
    }
    expect(count).toBeGreaterThan(5)
    for (let n = 0; n < count; n++) journal.append([settled(n, 1)])
    expect(journal.bytes).toBeLessThan(20_000)
    journal.assertRoom()
  })

  it('opens no more requests than the reserve can settle', () => {
    const journal = rig.open({ reserveBytes: 10_000 })
    let count = 0
    expect(() => {
      for (; count < 1000; count++) {
        journal.assertRoom()
        journal.append([opened(count)])
      }
    }).toThrowError(full)
    const before = journal.bytes
    for (let n = 0; n < count; n++) journal.append([settled(n, 1)])
    // The last one was opened when the others had filled it.
    expect(journal.bytes - before).toBeLessThan(10_000 + 2000)
  })

  it('removes a shipped segment after its retention, not before, and never one that is not', async () => {
    const journal = rig.open({ segmentBytesMax: 500, retentionMs: 10_000 })
    const first = (): number | undefined => listSegments(rig.disk, rig.directory)[0]
    const write = (from: number): void => {
      for (let n = from; n < from + 3; n++) journal.append([opened(n), settled(n, 1)])
    }
    write(0)
    journal.setShippedSegment(1)
    write(3)
    expect(first()).toBe(0)
    await rig.clock.advance(11_000)
    write(6)
    expect(first()).toBe(1)
    expect(rig.settledEvents().length).toBeGreaterThanOrEqual(8)
  })

  it('raises the alarm at 80% of its cap once, and takes it back when events are collected', async () => {
    const journal = rig.open({ segmentBytesMax: 500, totalBytesMax: 10_000 })
    for (let n = 0; journal.spoolRatio < 0.95; n++) {
      journal.append([opened(n), settled(n, 1)])
      await rig.clock.advance(1000)
      const isOver = journal.spoolRatio >= 0.85
      expect(/nears its cap/.test(rig.alarms())).toBe(isOver || journal.spoolRatio >= 0.8)
    }
    expect(rig.alarms().match(/nears its cap/g)).toHaveLength(1)
    journal.setShippedSegment(1000)
    await rig.clock.advance(1000)
    journal.append([opened(999), settled(999, 1)])
    expect(journal.spoolRatio).toBe(0)
    expect(rig.logged.join().match(/is collected again/g)).toHaveLength(1)
  })
})
