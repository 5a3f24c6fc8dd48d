/**
 * What a start of the host makes of the segments that the last run left.
 *
 * - Torn tail: cut off, every record before it kept.
 * - Damage: the segment is kept aside as `.damaged`, and its readable records are written anew in
 *   its place, each once and in their own order. A segment of another journal is kept aside as
 *   `.foreign`, and nothing of it counts.
 * - The last two segments are written anew in any case, byte by byte: the last run's fsyncs of them
 *   may have failed, and what a failed fsync left can be read now and be gone after a power loss.
 *   It also takes the file away from a process that still has it open.
 * - Says which requests were left open, or ended in records that nobody can read.
 *
 * Idempotent: a crash in the middle of it leaves nothing worse for the next start.
 */
import { basename, dirname, join } from 'node:path'
import type { LogFields, LogLevel } from '../log.ts'
import type { Disk } from './disk.ts'
import { readFile, replaceFile, syncDirectory, TEMPORARY_SUFFIX } from './durable-file.ts'
import { CHAIN_START, encodeRecords } from './frame.ts'
import { type OpenRequest, OpenRequests } from './open-requests.ts'
import type { JournalRecord } from './record.ts'
import {
  headOf,
  lastCrcOf,
  listSegments,
  listSetAside,
  recordsAsWritten,
  type SegmentScan,
  scanSegment,
  segmentPath,
} from './segment.ts'

export interface RecoveryNotice {
  readonly level: LogLevel
  readonly message: string
  readonly fields: LogFields
}

export interface JournalRecovery {
  /** Numbered from 0, in no handle space of the past. */
  readonly open: readonly OpenRequest[]
  /** Index for the segment of this run. */
  readonly nextIndex: number
  /** CRC of the last record on disk; null when there is none or damage hides it. */
  readonly lastCrc: string | null
  /** Segments written anew without some records: byte offsets into them mean nothing any more. */
  readonly salvaged: readonly number[]
  /** Of the newest readable head; null when there is none. */
  readonly lastEpoch: number | null
  readonly journalId: string | null
  /** Files that this and earlier recoveries set aside, and nobody has moved away since. */
  readonly setAside: readonly string[]
  readonly notices: readonly RecoveryNotice[]
}

export interface RecoveryInput {
  readonly directory: string
  /** The oldest segment that still matters: the one that shipping has come to. */
  readonly fromIndex: number
  /** null = not known: the oldest segment that names one decides. */
  readonly journalId: string | null
}

/** As many as one run leaves unsynced at most: the open one, and the one before it. */
const IN_DOUBT = 2
/** Of a notice; a segment may be damaged in more places than a log line should list. */
const REGIONS_LOGGED_MAX = 8

export function recoverJournal(disk: Disk, input: RecoveryInput): JournalRecovery {
  return new Recovery(disk, input).run()
}

class Recovery {
  readonly #disk: Disk
  readonly #input: RecoveryInput
  readonly #open = new OpenRequests()
  readonly #notices: RecoveryNotice[] = []
  readonly #salvaged: number[] = []
  #lastCrc: string | null = null
  #lastEpoch: number | null = null
  #journalId: string | null

  constructor(disk: Disk, input: RecoveryInput) {
    this.#disk = disk
    this.#input = input
    this.#journalId = input.journalId
  }

  run(): JournalRecovery {
    const { directory, fromIndex } = this.#input
    this.#removeTemporaries()
    const indexes = listSegments(this.#disk, directory)
    const last = indexes.at(-1) ?? -1
    let before: number | null = null
    for (const index of indexes.slice(this.#firstToRead(indexes))) {
      if (before !== null && index !== before + 1) {
        const fields = { missing_from: before + 1, missing_to: index - 1 }
        this.#notice('error', 'journal segments are missing', fields)
        this.#lastCrc = null
      }
      this.#recoverSegment(index, last)
      before = index
    }
    const setAside = listSetAside(this.#disk, directory)
    if (setAside.length > this.#salvaged.length) {
      const fields = { files: setAside.join(', ') }
      this.#notice('warn', 'journal segments that were set aside wait to be looked at', fields)
    }
    if (this.#open.unnamedCount > 0) {
      const fields = { requests: this.#open.unnamedCount }
      this.#notice('error', 'damage hides whose some requests were: they cannot be billed', fields)
    }
    return {
      open: this.#open.list().map(renumber),
      nextIndex: Math.max(last + 1, fromIndex),
      lastCrc: this.#lastCrc,
      salvaged: this.#salvaged,
      lastEpoch: this.#lastEpoch,
      journalId: this.#journalId,
      setAside,
      notices: this.#notices,
    }
  }

  #recoverSegment(index: number, last: number): void {
    const path = segmentPath(this.#input.directory, index)
    const bytes = readFile(this.#disk, path)
    const scan = scanSegment(bytes)
    const head = headOf(scan)
    this.#journalId ??= head?.journal_id ?? null
    if (head?.journal_id != null && head.journal_id !== this.#journalId) {
      this.#setForeignAside(path, index)
      return
    }
    if (head !== null) {
      this.#lastEpoch = Math.max(this.#lastEpoch ?? 0, head.epoch)
      const joins = this.#lastCrc === null || head.previous_crc === this.#lastCrc
      if (!joins || head.index !== index) {
        this.#notice('error', 'journal segments do not join: records are missing', { index })
      }
    }
    for (const record of recordsAsWritten(scan)) this.#open.apply(record)
    this.#lastCrc = lastCrcOf(scan)
    const whole = bytes.subarray(0, bytes.length - scan.tornBytes)
    if (scan.damaged || (scan.tornBytes > 0 && index !== last))
      this.#salvage(path, index, bytes, scan)
    else if (index > last - IN_DOUBT) replaceFile(this.#disk, path, whole)
    if (scan.tornBytes > 0 && index === last) {
      const fields = { index, offset: whole.length, torn_bytes: scan.tornBytes }
      this.#notice('warn', 'journal ended in a torn record, which was cut off', fields)
    }
  }

  #salvage(path: string, index: number, bytes: Buffer, scan: SegmentScan): void {
    const lostBytes = scan.damagedBytes + scan.tornBytes
    const keptAs = this.#unusedPath(`${path}.damaged`)
    const readable = recordsAsWritten(scan)
    // The copy first: at no moment is the segment without a name.
    replaceFile(this.#disk, keptAs, bytes)
    const note: JournalRecord = { t: 'salvaged', lost_bytes: lostBytes }
    replaceFile(this.#disk, path, encodeRecords([note, ...readable], CHAIN_START).bytes)
    this.#lastCrc = null
    this.#salvaged.push(index)
    this.#notice('error', 'journal segment is damaged: kept aside, readable records salvaged', {
      index,
      kept_as: keptAs,
      regions: regionsText(scan, bytes.length),
      lost_bytes: lostBytes,
      salvaged_records: readable.length,
    })
  }

  #setForeignAside(path: string, index: number): void {
    const keptAs = this.#unusedPath(`${path}.foreign`)
    this.#disk.rename(path, keptAs)
    syncDirectory(this.#disk, dirname(path))
    this.#lastCrc = null
    this.#salvaged.push(index)
    const fields = { index, kept_as: keptAs }
    this.#notice('error', 'journal segment belongs to another journal: kept aside', fields)
  }

  /** The newest segment ≤ `fromIndex` with a readable head, since that head says what was open. */
  #firstToRead(indexes: readonly number[]): number {
    const { directory, fromIndex } = this.#input
    let position = indexes.findLastIndex((index) => index <= fromIndex)
    for (; position > 0; position--) {
      const bytes = readFile(this.#disk, segmentPath(directory, indexes[position] ?? 0))
      if (headOf(scanSegment(bytes)) !== null) return position
    }
    return 0
  }

  /** Copies that a crash left half written. */
  #removeTemporaries(): void {
    const { directory } = this.#input
    for (const name of this.#disk.list(directory)) {
      if (name.endsWith(TEMPORARY_SUFFIX)) this.#disk.unlink(join(directory, name))
    }
  }

  #unusedPath(path: string): string {
    const names = this.#disk.list(dirname(path))
    let free = path
    for (let copy = 1; names.includes(basename(free)); copy++) free = `${path}-${copy}`
    return free
  }

  #notice(level: LogLevel, message: string, fields: LogFields): void {
    this.#notices.push({ level, message, fields })
  }
}

/** Handles are of one epoch: the next begins with these. */
function renumber({ opened, started, progress }: OpenRequest, n: number): OpenRequest {
  return {
    opened: { ...opened, n },
    started: started === null ? null : { ...started, n },
    progress: progress === null ? null : [n, progress[1], progress[2], progress[3]],
  }
}

function regionsText({ damage, tornBytes }: SegmentScan, size: number): string {
  const regions = damage
    .slice(0, REGIONS_LOGGED_MAX)
    .map(({ start, end, kind }) => `${start}–${end} ${kind}`)
  if (damage.length > REGIONS_LOGGED_MAX) regions.push(`${damage.length} in all`)
  if (tornBytes > 0) regions.push(`${size - tornBytes}–${size} torn`)
  return regions.join(', ')
}
