/**
 * Looks at every segment of a journal without changing it: what can be proved, what is damaged, and
 * whether the segments join. For operators, and for whoever reconciles bills with journals.
 */
import { basename } from 'node:path'
import { errorCodeOf } from '../errors.ts'
import type { Disk } from './disk.ts'
import { readFile } from './durable-file.ts'
import { identityPath } from './epoch.ts'
import { OpenRequests } from './open-requests.ts'
import {
  type DamagedRegion,
  headOf,
  lastCrcOf,
  listSegments,
  listSetAside,
  recordsAsWritten,
  scanSegment,
  segmentPath,
} from './segment.ts'

export interface SegmentReport {
  readonly segment: number
  /** null = its head is not readable. */
  readonly format: number | null
  readonly epoch: number | null
  readonly host_id: string | null
  readonly bytes: number
  readonly records: number
  /** Usage events among them. */
  readonly events: number
  readonly damage: readonly DamagedRegion[]
  /** A write that was cut short; in the last segment, perhaps one that is under way. */
  readonly torn_bytes: number
  /** Whether it follows the segment before; null where nothing says so. */
  readonly joins: boolean | null
  /** Requests without an end, at the end of this segment. */
  readonly open: number
}

export interface JournalReport {
  readonly segments: readonly SegmentReport[]
  /** Numbers that no segment has, between the first and the last. */
  readonly missing: readonly number[]
  /** What recoveries have set aside: damage of the past, for somebody to look at. */
  readonly set_aside: readonly string[]
  readonly is_sound: boolean
}

/** Whether a host ever kept its journal there: it has a segment, or the file of the epoch. */
export function isJournal(disk: Disk, directory: string): boolean {
  try {
    const names = disk.list(directory)
    const identity = basename(identityPath(directory))
    return names.includes(identity) || listSegments(disk, directory).length > 0
  } catch (error) {
    const code = errorCodeOf(error)
    if (code === 'ENOENT' || code === 'ENOTDIR') return false
    throw error
  }
}

/** A journal without any segment is not sound: its host begins one at each start. */
export function verifyJournal(disk: Disk, directory: string): JournalReport {
  const indexes = listSegments(disk, directory)
  const open = new OpenRequests()
  const segments: SegmentReport[] = []
  let lastCrc: string | null = null
  let journalId: string | null = null
  for (const index of indexes) {
    const bytes = readOrNull(disk, segmentPath(directory, index))
    if (bytes === null) continue
    const scan = scanSegment(bytes)
    const head = headOf(scan)
    for (const record of recordsAsWritten(scan)) open.apply(record)
    const isFollowing = segments.at(-1)?.segment === index - 1 && lastCrc !== null
    const isOfJournal =
      journalId === null || head?.journal_id == null || head.journal_id === journalId
    const isJoined = head?.previous_crc === lastCrc && head?.index === index && isOfJournal
    journalId ??= head?.journal_id ?? null
    segments.push({
      segment: index,
      format: head?.format ?? null,
      epoch: head?.epoch ?? null,
      host_id: head?.host_id ?? null,
      bytes: bytes.length,
      records: scan.records.length,
      events: scan.records.filter(({ record }) => record.t === 'settled' && record.event !== null)
        .length,
      damage: scan.damage,
      torn_bytes: scan.tornBytes,
      joins: isFollowing && head !== null ? isJoined : null,
      open: open.size,
    })
    lastCrc = lastCrcOf(scan)
  }
  const missing = missingOf(segments.map(({ segment }) => segment))
  const set_aside = listSetAside(disk, directory)
  const last = segments.at(-1)
  const isSound = segments.every((report) => {
    const isTorn = report.torn_bytes > 0 && report !== last
    return report.damage.length === 0 && report.joins !== false && !isTorn
  })
  return {
    segments,
    missing,
    set_aside,
    is_sound: isSound && segments.length > 0 && missing.length + set_aside.length === 0,
  }
}

function missingOf(indexes: readonly number[]): number[] {
  const missing: number[] = []
  for (const [position, index] of indexes.entries()) {
    const before = indexes[position - 1] ?? index - 1
    for (let gap = before + 1; gap < index; gap++) missing.push(gap)
  }
  return missing
}

/** Retention may have removed a segment since it was listed. */
function readOrNull(disk: Disk, path: string): Buffer | null {
  try {
    return readFile(disk, path)
  } catch (error) {
    if (errorCodeOf(error) === 'ENOENT') return null
    throw error
  }
}
