/**
 * How far the edge has acknowledged, in a file beside the segments. It may be lost, damaged or
 * behind: then events are sent again, which is harmless. It must never be ahead: what it skips
 * nobody bills.
 */
import { basename, join } from 'node:path'
import { z } from 'zod'
import type { Log } from '../log.ts'
import { encodeChecked, readChecked } from './checked-file.ts'
import type { Disk } from './disk.ts'
import { readFile, replaceFileLater } from './durable-file.ts'
import { NEWLINE } from './frame.ts'
import type { JournalRecovery } from './recovery.ts'
import { isSalvaged, scanSegment, segmentPath } from './segment.ts'
import { CURSOR_START, type JournalCursor } from './settled-reader.ts'

const cursorSchema = z.object({ segment: z.int().min(0), offset: z.int().min(0) })

function cursorPath(directory: string): string {
  return join(directory, 'shipped.json')
}

/** As stored; unreadable = nothing is acknowledged yet. */
export function readShippedCursor(disk: Disk, directory: string, log: Log): JournalCursor {
  const content = readChecked(disk, cursorPath(directory), cursorSchema)
  if (content.state === 'present') return content.value
  if (content.state === 'damaged') {
    log('error', 'the record of shipped usage is unreadable: all of the journal is sent again')
  }
  return CURSOR_START
}

/**
 * Holds up no stream for the disk. Rejects with the disk's error; then the old cursor stands, as it
 * does after a power loss that takes the new name.
 */
export function writeShippedCursor(
  disk: Disk,
  directory: string,
  cursor: JournalCursor,
): Promise<void> {
  return replaceFileLater(disk, cursorPath(directory), encodeChecked(cursor))
}

export interface CursorPlace {
  readonly disk: Disk
  readonly directory: string
  readonly recovery: JournalRecovery
  readonly log: Log
}

/**
 * The cursor after a recovery: at the start of its segment, where its offset there means nothing
 * any more. Where recovery has no reason for that, records that were durable are gone.
 */
export function placeCursor(cursor: JournalCursor, place: CursorPlace): JournalCursor {
  const { disk, directory, recovery, log } = place
  if (cursor.offset === 0) return cursor
  const restart = { ...cursor, offset: 0 }
  if (recovery.salvaged.includes(cursor.segment)) return restart
  const path = segmentPath(directory, cursor.segment)
  // A segment of that number which this start began is another one.
  const isThere =
    cursor.segment < recovery.nextIndex && disk.list(directory).includes(basename(path))
  const bytes = isThere ? readFile(disk, path) : Buffer.alloc(0)
  // Written anew by a recovery that did not come to its end: this cursor may be of before.
  if (isSalvaged(scanSegment(bytes.subarray(0, bytes.indexOf(NEWLINE) + 1)))) return restart
  if (bytes[cursor.offset - 1] === NEWLINE) return cursor
  const fields = { segment: cursor.segment, offset: cursor.offset }
  log('error', 'the journal ends before what was shipped: records are missing', fields)
  return restart
}
