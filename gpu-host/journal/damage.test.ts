/**
 * Damage of every kind to a journal at rest: it is always seen, never hides a record before it, and
 * what is billed afterwards is never more than what was recorded.
 */
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { JournalRig, opened, progress, settled, started } from '../test/support/journal-records.ts'
import { createRandom } from '../test/support/random.ts'
import { NEWLINE } from './frame.ts'
import type { JournalRecord } from './record.ts'
import { listSegments, type SegmentScan, scanSegment, segmentPath } from './segment.ts'

let rig: JournalRig
beforeEach(() => {
  rig = new JournalRig()
})

const pathOf = (index: number): string => segmentPath(rig.directory, index)
const readSegment = (index: number): Buffer => rig.disk.readFile(pathOf(index))

function recordsOf(scan: SegmentScan): readonly JournalRecord[] {
  return scan.records.map(({ record }) => record)
}

function isSeen({ damaged, tornBytes }: SegmentScan): boolean {
  return damaged || tornBytes > 0
}

/** Where each line begins, and the end of the file. */
function borders(bytes: Buffer): number[] {
  const found = [0]
  for (let i = 0; i < bytes.length; i++) if (bytes[i] === NEWLINE) found.push(i + 1)
  return found
}

function withByte(bytes: Buffer, at: number, value: number): Buffer {
  const changed = Buffer.from(bytes)
  changed[at] = value
  return changed
}

/** A run of ordinary traffic; returns the bytes of its one segment. */
function writeTraffic(requests: number): Buffer {
  const journal = rig.open()
  for (let n = 0; n < requests; n++) {
    journal.append([opened(n)])
    journal.append([started(n), progress(n, 3, 1)])
    for (let tokens = 2; tokens < 6; tokens++) journal.append([progress(n, 3, tokens)])
    journal.append([settled(n, 5)])
  }
  return readSegment(0)
}

describe('the last three records', () => {
  /** Scans `changed` and expects the damage to be seen, and every record before it to be there. */
  function expectSeen(whole: readonly string[], bytes: Buffer, changed: Buffer, at: number) {
    const scan = scanSegment(changed)
    expect(isSeen(scan), `byte ${at} of ${bytes.length}`).toBe(true)
    const before = borders(bytes).filter((border) => border <= at).length - 1
    expect(textsOf(scan).slice(0, before).join()).toBe(whole.slice(0, before).join())
  }

  it('are proved against each flipped bit, zeroed byte and foreign byte at each of their bytes', () => {
    const bytes = writeTraffic(2)
    const whole = textsOf(scanSegment(bytes))
    const from = borders(bytes).at(-4) ?? 0
    const random = createRandom(1)
    for (let at = from; at < bytes.length; at++) {
      const byte = bytes[at] ?? 0
      const values = [...Array.from({ length: 8 }, (_, bit) => byte ^ (1 << bit)), 0]
      const garbage = Math.floor(random() * 256)
      if (garbage !== byte) values.push(garbage)
      for (const value of values) expectSeen(whole, bytes, withByte(bytes, at, value), at)
    }
  })

  it('are proved against zeros and garbage from each of their bytes to the end', () => {
    const bytes = writeTraffic(2)
    const whole = textsOf(scanSegment(bytes))
    const random = createRandom(2)
    for (let at = borders(bytes).at(-4) ?? 0; at < bytes.length; at++) {
      const zeroed = Buffer.from(bytes).fill(0, at)
      expectSeen(whole, bytes, zeroed, at)
      const garbled = Buffer.from(bytes)
      for (let i = at; i < bytes.length; i++) garbled[i] = Math.floor(random() * 256)
      expectSeen(whole, bytes, garbled, at)
    }
  })

  it('are cut to whole records at each of their bytes, and billed at what is left', () => {
    const journal = rig.open()
    journal.append([opened(0), started(0), progress(0, 3, 1)])
    for (let tokens = 2; tokens < 5; tokens++) journal.append([progress(0, 3, tokens)])
    const bytes = readSegment(0)
    const lines = borders(bytes)
    for (let length = lines.at(-4) ?? 0; length < bytes.length; length++) {
      rig = new JournalRig()
      rig.disk.writeFile(pathOf(0), bytes.subarray(0, length))
      const { salvaged } = rig.open().recovery
      const kept = lines.findLast((border) => border <= length) ?? 0
      expect(salvaged).toEqual([])
      expect(readSegment(0)).toEqual(bytes.subarray(0, kept))
      expect(rig.alarms()).toMatch(kept === length ? /^$/ : /torn record, which was cut off/)
      expect(rig.settledEvents()).toMatchObject([{ completion_tokens: lines.indexOf(kept) - 3 }])
    }
  })
})

describe('a whole journal', () => {
  it('shows each of 10,000 flipped bits, and keeps what comes before', () => {
    const bytes = writeTraffic(60)
    const whole = textsOf(scanSegment(bytes))
    const known = new Set(whole)
    const lines = borders(bytes)
    const random = createRandom(3)
    for (let flip = 0; flip < 10_000; flip++) {
      const at = Math.floor(random() * bytes.length)
      // Around the flip alone: the lines further off are the same bytes as before. What is not
      // proved there is damage, or a torn tail.
      const line = lines.findLastIndex((border) => border <= at)
      const from = lines[Math.max(0, line - 1)] ?? 0
      const to = lines[line + 3] ?? bytes.length
      const changed = withByte(bytes, at, (bytes[at] ?? 0) ^ (1 << Math.floor(random() * 8)))
      const around = textsOf(scanSegment(changed.subarray(from, to)))
      const untouched = whole.slice(Math.max(0, line - 1), line)
      expect(around.slice(0, untouched.length)).toEqual(untouched)
      expect(around).not.toContain(whole[line])
      expect(around.every((record) => known.has(record))).toBe(true)
    }
  })

  it('bills no more than was recorded, whatever bit is flipped, and says what it set aside', () => {
    const bytes = writeTraffic(4)
    const random = createRandom(4)
    for (let flip = 0; flip < 200; flip++) {
      rig = new JournalRig()
      const at = Math.floor(random() * bytes.length)
      const changed = withByte(bytes, at, (bytes[at] ?? 0) ^ (1 << Math.floor(random() * 8)))
      rig.disk.writeFile(pathOf(0), changed)
      rig.open()
      expect(rig.alarms()).toMatch(/damaged|torn/)
      const events = rig.settledEvents()
      expect(new Set(events.map(({ request_id }) => request_id)).size).toBe(events.length)
      // One record at most is gone: of one request its end, or its opening with nothing after it.
      expect(events.length).toBeGreaterThanOrEqual(4 - 1)
      for (const event of events) expect(event.completion_tokens).toBeLessThanOrEqual(5)
    }
  })
})

describe('records and segments out of their place', () => {
  it('are seen where a record was lost, doubled or moved', () => {
    const journal = rig.open()
    journal.append([opened(0), progress(0, 3, 1), progress(0, 3, 2), settled(0, 2)])
    const lines = readSegment(0).toString().trimEnd().split('\n')
    const [head = '', a = '', b = '', c = '', d = ''] = lines
    for (const wrong of [
      [head, a, c, d],
      [head, a, b, b, c, d],
      [head, a, c, b, d],
    ]) {
      expect(scanSegment(Buffer.from(`${wrong.join('\n')}\n`)).damaged).toBe(true)
    }
    expect(scanSegment(Buffer.from(`${lines.join('\n')}\n`)).damaged).toBe(false)
  })

  it('bill nothing anew: a line that stands twice, anywhere, is read once and in its place', () => {
    const bytes = writeTraffic(2)
    const billed = rig.settledEvents()
    const ends = borders(bytes)
    for (const [i, start] of ends.slice(0, -1).entries()) {
      const line = bytes.subarray(start, ends[i + 1])
      for (const to of ends) {
        rig = new JournalRig()
        rig.disk.writeFile(
          pathOf(0),
          Buffer.concat([bytes.subarray(0, to), line, bytes.subarray(to)]),
        )
        rig.open()
        expect(rig.settledEvents(), `line ${i} at byte ${to} too`).toEqual(billed)
      }
    }
  })

  it('take nothing back: a progress that stands too late counts for no less', () => {
    const journal = rig.open()
    journal.append([opened(0), progress(0, 3, 1), progress(0, 3, 8)])
    const [head = '', a = '', b = '', c = ''] = readSegment(0).toString().split('\n')
    rig.disk.writeFile(pathOf(0), Buffer.from(`${[head, a, c, b].join('\n')}\n`))
    rig.open()
    expect(rig.settledEvents()).toMatchObject([{ completion_tokens: 8 }])
  })

  it('are seen where a whole segment is missing or stands under another number', () => {
    const journal = rig.open({ segmentBytesMax: 300 })
    for (let n = 0; n < 6; n++) journal.append([opened(n), settled(n, 1)])
    const second = readSegment(1)
    rig.disk.unlink(pathOf(1))
    rig.open()
    expect(rig.alarms()).toMatch(/error: journal segments are missing/)
    rig.logged.length = 0
    rig.disk.writeFile(pathOf(1), readSegment(2))
    rig.disk.writeFile(pathOf(2), second)
    rig.open()
    expect(rig.alarms()).toMatch(/error: journal segments do not join/)
  })

  it('are missed where the segments of the whole last life are gone', () => {
    rig.open().append([opened(0), settled(0, 1)])
    rig.open().append([opened(1), settled(1, 1)])
    rig.disk.unlink(pathOf(1))
    rig.open()
    expect(rig.alarms()).toMatch(/warn: no segment is of the last start/)
  })

  it('are kept aside where a segment is of another journal, and nothing of it is billed', () => {
    const other = new JournalRig()
    other.open().append([opened(9), progress(9, 3, 7), settled(8, 1)])
    rig.open().append([opened(0), progress(0, 3, 2)])
    rig.disk.writeFile(pathOf(1), other.disk.readFile(pathOf(0)))
    const { recovery } = rig.open()
    expect(rig.alarms()).toMatch(/error: journal segment belongs to another journal/)
    expect(recovery.salvaged).toEqual([1])
    expect(rig.disk.list(rig.directory)).toContain('segment-0000000001.jsonl.foreign')
    expect(rig.settledEvents()).toMatchObject([{ request_id: 'req_0', completion_tokens: 2 }])
  })
})

describe('a damaged segment', () => {
  /** Flips a bit in the line that holds `text`. */
  function damage(index: number, text: string): void {
    const bytes = readSegment(index)
    const at = bytes.indexOf(text)
    expect(at).toBeGreaterThan(0)
    rig.disk.writeFile(pathOf(index), withByte(bytes, at, (bytes[at] ?? 0) ^ 1))
  }

  it('is kept aside loudly, with the places, and once', () => {
    const journal = rig.open()
    journal.append([opened(0), opened(1), progress(0, 3, 1), progress(0, 3, 5), settled(1, 2)])
    const original = readSegment(0)
    damage(0, '[0,3,1,10]')
    const damaged = readSegment(0)
    const next = rig.open()
    expect(next.recovery.salvaged).toEqual([0])
    const [start, end] = borders(original).slice(3)
    expect(rig.alarms()).toContain(`"regions":"${start}–${end} unreadable`)
    expect(rig.disk.readFile(`${pathOf(0)}.damaged`)).toEqual(damaged)
    expect(rig.settledEvents()).toMatchObject([
      { request_id: 'req_1', completion_tokens: 2 },
      { request_id: 'req_0', completion_tokens: 5, source: 'recovered' },
    ])
    rig.logged.length = 0
    expect(rig.open().recovery.salvaged).toEqual([])
    // Until somebody has moved it away.
    expect(rig.alarms()).toMatch(/^warn: journal segments that were set aside wait .*\.damaged"}$/)
  })

  it('still ships the settled record of a request whose opening it has eaten', () => {
    rig.open().append([opened(0), progress(0, 3, 4), settled(0, 4)])
    damage(0, '"t":"opened"')
    rig.open()
    expect(rig.settledEvents()).toMatchObject([{ request_id: 'req_0', source: 'engine' }])
    expect(rig.alarms()).not.toMatch(/cannot be billed/)
  })

  it('says that a request cannot be named when its opening is eaten and it never settled', () => {
    rig.open().append([opened(0), progress(0, 3, 4)])
    damage(0, '"t":"opened"')
    rig.open()
    expect(rig.settledEvents()).toEqual([])
    expect(rig.alarms()).toMatch(/cannot be billed \{"requests":1\}/)
  })

  it('closes at its last progress a request whose end it has eaten, though later heads forgot it', () => {
    const journal = rig.open({ segmentBytesMax: 600 })
    journal.append([opened(0), progress(0, 3, 6)])
    journal.append([settled(0, 6)])
    for (let n = 1; n < 5; n++) journal.append([opened(n), settled(n, 1)])
    expect(listSegments(rig.disk, rig.directory).length).toBeGreaterThan(2)
    damage(0, '"t":"settled","n":0')
    rig.open()
    const ofRequest = (): readonly unknown[] =>
      rig.settledEvents().filter(({ request_id }) => request_id === 'req_0')
    expect(ofRequest()).toMatchObject([{ source: 'recovered', completion_tokens: 6 }])
    // And not again at each further start.
    rig.open()
    expect(ofRequest()).toHaveLength(1)
  })

  it('does not mistake its requests for those of the next life when a head is eaten', () => {
    rig.open().append([opened(0), progress(0, 3, 6)])
    const second = rig.open()
    second.append([{ ...opened(7), n: 0 }, progress(0, 9, 2)])
    damage(1, '"t":"segment"')
    damage(1, '"t":"settled"')
    rig.open()
    expect(rig.settledEvents()).toMatchObject([
      { request_id: 'req_7', completion_tokens: 2 },
      { request_id: 'req_0', completion_tokens: 6 },
    ])
  })

  it('loses nothing when the recovery itself is cut off, at any of its calls', () => {
    const journal = rig.open()
    journal.append([opened(0), opened(1), progress(0, 3, 1), progress(0, 3, 5), settled(1, 2)])
    damage(0, '[0,3,1,10]')
    const bytes = readSegment(0)
    for (let call = 0; ; call++) {
      let left = call
      rig = new JournalRig()
      rig.disk.writeFile(pathOf(0), bytes)
      rig.disk.fault = () => (left-- === 0 ? new Error('cut') : null)
      let isWhole = true
      try {
        rig.open()
      } catch {
        isWhole = false
      }
      left = -1
      rig.open()
      expect(rig.alarms()).toMatch(/damaged/)
      const events = new Map(rig.settledEvents().map((event) => [event.request_id, event]))
      expect([...events.keys()].sort()).toEqual(['req_0', 'req_1'])
      expect(events.get('req_0')).toMatchObject({ completion_tokens: 5 })
      if (isWhole) return
    }
  })

  it('leaves no copy half written', () => {
    rig.disk.writeFile(join(rig.directory, 'segment-0000000000.jsonl.tmp'), Buffer.from('half'))
    rig.open()
    expect(rig.disk.list(rig.directory).filter((name) => name.endsWith('.tmp'))).toEqual([])
  })
})

function textsOf(scan: SegmentScan): string[] {
  return recordsOf(scan).map((record) => JSON.stringify(record))
}
