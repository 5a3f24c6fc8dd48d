/**
 * Segment files: their names, and reading one. A reader gets every record it can prove, the damage
 * in between, and the length of a torn tail (bytes after the last newline: a write that the crash
 * cut short, so nothing of it was ever acted on).
 */
import { join } from 'node:path'
import type { Disk } from './disk.ts'
import {
  CHAIN_START,
  type ChainPosition,
  type DecodedRecord,
  decodeRecord,
  NEWLINE,
} from './frame.ts'
import type { JournalRecord, SegmentRecord } from './record.ts'

const SEGMENT_NAME = /^segment-(\d{10})\.jsonl$/

const SET_ASIDE_NAME = /\.(damaged|foreign)(-\d+)?$/

export function segmentPath(directory: string, index: number): string {
  return join(directory, `segment-${String(index).padStart(10, '0')}.jsonl`)
}

/** Indexes of the segments in `directory`, ascending. */
export function listSegments(disk: Disk, directory: string): number[] {
  return disk
    .list(directory)
    .map((name) => SEGMENT_NAME.exec(name)?.[1])
    .filter((index) => index !== undefined)
    .map(Number)
    .sort((a, b) => a - b)
}

/** Names of what recoveries have set aside: damage that waits for somebody to look at it. */
export function listSetAside(disk: Disk, directory: string): string[] {
  return disk.list(directory).filter((name) => SET_ASIDE_NAME.test(name))
}

/** Bytes `start` ≤ … < `end` of a segment that are not as they were written. */
export interface DamagedRegion {
  readonly start: number
  readonly end: number
  /** `misplaced`: a whole record, but not the one that belongs there. */
  readonly kind: 'unreadable' | 'misplaced'
}

export interface SegmentScan {
  readonly records: readonly DecodedRecord[]
  /** In order; adjoining ones of a kind are one. */
  readonly damage: readonly DamagedRegion[]
  /** Complete lines that prove nothing, or that break the chain. */
  readonly damaged: boolean
  /** Bytes of complete lines that hold no provable record. */
  readonly damagedBytes: number
  /** Bytes after the last newline. */
  readonly tornBytes: number
}

/** Never throws: any bytes give a scan. */
export function scanSegment(bytes: Buffer): SegmentScan {
  const records: DecodedRecord[] = []
  const damage: DamagedRegion[] = []
  let expected = CHAIN_START
  let start = 0
  for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
    const decoded = decodeRecord(bytes.subarray(start, end))
    const region = { start, end: end + 1 }
    if (decoded === null) addRegion(damage, { ...region, kind: 'unreadable' })
    else {
      if (!joins(decoded, expected)) addRegion(damage, { ...region, kind: 'misplaced' })
      records.push(decoded)
      expected = { crc: decoded.crc, number: decoded.number + 1 }
    }
    start = end + 1
  }
  const unreadable = damage.filter(({ kind }) => kind === 'unreadable')
  return {
    records,
    damage,
    damaged: damage.length > 0,
    damagedBytes: unreadable.reduce((sum, region) => sum + region.end - region.start, 0),
    tornBytes: bytes.length - start,
  }
}

/** All that can be read, each once and in the order of its writing, wherever it lies by now. */
export function recordsAsWritten({ records, damaged }: SegmentScan): JournalRecord[] {
  if (!damaged) return records.map(({ record }) => record)
  const once = new Map(records.map((decoded) => [`${decoded.number} ${decoded.crc}`, decoded]))
  return [...once.values()].sort((a, b) => a.number - b.number).map(({ record }) => record)
}

/** Head of a segment; one that was written anew has it behind the note of that. */
export function headOf({ records }: SegmentScan): SegmentRecord | null {
  const head = records.slice(0, 2).find(({ record }) => record.t === 'segment')
  return head?.record.t === 'segment' ? head.record : null
}

/** Written anew: offsets from before mean nothing in it. */
export function isSalvaged({ records }: SegmentScan): boolean {
  return records[0]?.record.t === 'salvaged'
}

/** CRC that the head of the next segment names; null where damage hides it. */
export function lastCrcOf(scan: SegmentScan): string | null {
  return scan.damaged || isSalvaged(scan) ? null : (scan.records.at(-1)?.crc ?? null)
}

function joins({ previousCrc, number }: DecodedRecord, expected: ChainPosition): boolean {
  return previousCrc === expected.crc && number === expected.number
}

function addRegion(damage: DamagedRegion[], region: DamagedRegion): void {
  const last = damage.at(-1)
  if (last?.end === region.start && last.kind === region.kind) {
    damage[damage.length - 1] = { ...last, end: region.end }
  } else damage.push(region)
}
