/**
 * What a start of the host makes of the segments that the last run left: cuts a torn tail off,
 * keeps every record before it, sets damaged segments aside (renamed `.damaged`, their readable
 * records written anew in their place) and says which requests were left open. Idempotent: a crash
 * in the middle of it leaves nothing worse for the next start.
 */
import { basename, dirname } from 'node:path'
import type { LogFields, LogLevel } from '../log.ts'
import type { Disk } from './disk.ts'
import { readFile, replaceFile } from './durable-file.ts'
import { type OpenRequest, OpenRequests } from './open-requests.ts'
import { CHAIN_START, encodeRecord, type JournalRecord } from './record.ts'
import { listSegments, type SegmentScan, scanSegment, segmentPath } from './segment.ts'

export interface RecoveryNotice {
  readonly level: LogLevel
  readonly message: string
  readonly fields: LogFields
}

export interface JournalRecovery {
  readonly open: readonly OpenRequest[]
  /** Index for the segment of this run. */
  readonly nextIndex: number
  /** CRC of the last record on disk; null when there is none or damage hides it. */
  readonly lastCrc: string | null
  /** Segments written anew: byte offsets into them mean nothing any more. */
  readonly salvaged: readonly number[]
  readonly notices: readonly RecoveryNotice[]
}

/** `fromIndex`: the oldest segment that still matters (the one that shipping has come to). */
export function recoverJournal(disk: Disk, directory: string, fromIndex: number): JournalRecovery {
  const indexes = listSegments(disk, directory)
  const open = new OpenRequests()
  const notices: RecoveryNotice[] = []
  const salvaged: number[] = []
  let lastCrc: string | null = null
  for (const index of indexes.slice(firstToRead(disk, directory, indexes, fromIndex))) {
    const path = segmentPath(directory, index)
    const isLast = index === indexes.at(-1)
    const bytes = readFile(disk, path)
    const scan = scanSegment(bytes)
    const [head] = scan.records
    if (head?.record.t === 'segment' && lastCrc !== null && head.record.previous_crc !== lastCrc) {
      notices.push(notice('error', 'journal segments do not join: records are missing', { index }))
    }
    for (const { record } of scan.records) open.apply(record)
    lastCrc = scan.records.at(-1)?.crc ?? lastCrc
    if (scan.damaged || (scan.tornBytes > 0 && !isLast)) {
      notices.push(setAside(disk, path, bytes, scan))
      salvaged.push(index)
      lastCrc = null
    } else if (scan.tornBytes > 0) {
      replaceFile(disk, path, bytes.subarray(0, bytes.length - scan.tornBytes))
      const fields = { index, torn_bytes: scan.tornBytes }
      notices.push(notice('warn', 'journal ended in a torn record, which was cut off', fields))
    }
  }
  return { open: open.list(), nextIndex: (indexes.at(-1) ?? -1) + 1, lastCrc, salvaged, notices }
}

/** The newest segment ≤ `fromIndex` with a readable head, since that head says what was open. */
function firstToRead(
  disk: Disk,
  directory: string,
  indexes: readonly number[],
  fromIndex: number,
): number {
  let position = indexes.findLastIndex((index) => index <= fromIndex)
  for (; position > 0; position--) {
    const bytes = readFile(disk, segmentPath(directory, indexes[position] ?? 0))
    if (scanSegment(bytes).records[0]?.record.t === 'segment') return position
  }
  return 0
}

function setAside(disk: Disk, path: string, bytes: Buffer, scan: SegmentScan): RecoveryNotice {
  const lostBytes = scan.damagedBytes + scan.tornBytes
  const keptAs = unusedPath(disk, `${path}.damaged`)
  const readable = scan.records.map(({ record }) => record)
  // The copy first: at no moment is the segment without a name.
  replaceFile(disk, keptAs, bytes)
  const head: JournalRecord = { t: 'salvaged', lost_bytes: lostBytes }
  replaceFile(disk, path, Buffer.from(encodeAll([head, ...readable])))
  return notice('error', 'journal segment is damaged: kept aside, readable records salvaged', {
    path,
    kept_as: keptAs,
    lost_bytes: lostBytes,
    salvaged_records: readable.length,
  })
}

function unusedPath(disk: Disk, path: string): string {
  const names = disk.list(dirname(path))
  let free = path
  for (let copy = 1; names.includes(basename(free)); copy++) free = `${path}-${copy}`
  return free
}

function encodeAll(records: readonly JournalRecord[]): string {
  let at = CHAIN_START
  let text = ''
  for (const record of records) {
    const { line, next } = encodeRecord(record, at)
    text += line
    at = next
  }
  return text
}

function notice(level: LogLevel, message: string, fields: LogFields): RecoveryNotice {
  return { level, message, fields }
}
