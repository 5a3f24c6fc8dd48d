/**
 * Segment files: their names, and reading one. A reader gets every record it can prove, the damage
 * in between, and the length of a torn tail (bytes after the last newline: a write that the crash
 * cut short, so nothing of it was ever acted on).
 */
import { join } from 'node:path'
import type { Disk } from './disk.ts'
import { CHAIN_START, type DecodedRecord, decodeRecord } from './record.ts'

const SEGMENT_NAME = /^segment-(\d{10})\.jsonl$/

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

export interface SegmentScan {
  readonly records: readonly DecodedRecord[]
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
  let expected = CHAIN_START
  let damaged = false
  let damagedBytes = 0
  let start = 0
  for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, start)) {
    const decoded = decodeRecord(bytes.toString('utf8', start, end))
    if (decoded === null) {
      damaged = true
      damagedBytes += end + 1 - start
    } else {
      if (decoded.previousCrc !== expected.crc || decoded.number !== expected.number) damaged = true
      records.push(decoded)
      expected = { crc: decoded.crc, number: decoded.number + 1 }
    }
    start = end + 1
  }
  return { records, damaged, damagedBytes, tornBytes: bytes.length - start }
}
