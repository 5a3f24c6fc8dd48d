/**
 * Reads settled usage events from the segments, in order, from a cursor on. The journal itself is
 * the queue of what must be shipped, so nothing has to be held in memory while the edge is away.
 */
import { errorCodeOf } from '../errors.ts'
import type { UsageEvent } from '../protocol.ts'
import { type Disk, nodeDisk } from './disk.ts'
import { decodeRecord, NEWLINE } from './frame.ts'
import { listSegments, segmentPath } from './segment.ts'

/** Everything before it is dealt with. */
export interface JournalCursor {
  readonly segment: number
  readonly offset: number
}
export const CURSOR_START: JournalCursor = { segment: 0, offset: 0 }
const JOURNAL_END: JournalCursor = { segment: Infinity, offset: Infinity }

export interface ReadOptions {
  readonly disk?: Disk
  /** Nothing from here on; by default everything there is. */
  readonly until?: JournalCursor
}

export interface SettledPage {
  readonly events: readonly UsageEvent[]
  /** Acknowledging `events` means: go on here. */
  readonly cursor: JournalCursor
}

const CHUNK_BYTES = 1024 * 1024
const SETTLED_MARK = '{"t":"settled"'

/** Up to `eventsMax` events; none means that the end is reached (the cursor may still move on). */
export function readSettled(
  directory: string,
  from: JournalCursor,
  eventsMax: number,
  { disk = nodeDisk, until = JOURNAL_END }: ReadOptions = {},
): SettledPage {
  const events: UsageEvent[] = []
  let cursor = from
  const later = listSegments(disk, directory).filter((index) => {
    return index >= from.segment && index <= until.segment
  })
  for (const [position, segment] of later.entries()) {
    if (segment !== cursor.segment) cursor = { segment, offset: 0 }
    const end = segment === until.segment ? until.offset : Infinity
    const page = { events, eventsMax, end }
    cursor = readSegment(disk, segmentPath(directory, segment), cursor, page)
    if (events.length >= eventsMax || position === later.length - 1) break
  }
  return { events, cursor }
}

/** What is being filled. */
interface Page {
  readonly events: UsageEvent[]
  readonly eventsMax: number
  /** Of this segment, bytes before it alone. */
  readonly end: number
}

function readSegment(disk: Disk, path: string, from: JournalCursor, page: Page): JournalCursor {
  const fd = openOrNull(disk, path)
  if (fd === null) return from
  let { offset } = from
  try {
    const size = Math.min(disk.size(fd), page.end)
    let chunkBytes = CHUNK_BYTES
    while (offset < size && page.events.length < page.eventsMax) {
      const chunk = Buffer.alloc(Math.min(chunkBytes, size - offset))
      const filled = chunk.subarray(0, disk.read(fd, chunk, offset))
      const used = readLines(filled, page)
      if (used === 0 && filled.length < chunkBytes) break
      chunkBytes = used === 0 ? chunkBytes * 2 : CHUNK_BYTES
      offset += used
    }
  } finally {
    disk.close(fd)
  }
  return { segment: from.segment, offset }
}

/** Returns the bytes of the whole lines that were taken. */
function readLines(chunk: Buffer, { events, eventsMax }: Page): number {
  let start = 0
  for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
    if (events.length >= eventsMax) break
    const line = chunk.subarray(start, end)
    if (line.includes(SETTLED_MARK)) {
      const record = decodeRecord(line)?.record
      if (record?.t === 'settled' && record.event !== null) events.push(record.event)
    }
    start = end + 1
  }
  return start
}

/** Retention may have removed a segment between listing and opening. */
function openOrNull(disk: Disk, path: string): number | null {
  try {
    return disk.open(path, 'read')
  } catch (error) {
    if (errorCodeOf(error) === 'ENOENT') return null
    throw error
  }
}
