/**
 * The first thing that a start does to its journal: recovers what is there, takes the next epoch,
 * and tells the log what it found. Both are durable when it returns.
 */
import type { Log } from '../log.ts'
import { encodeChecked } from './checked-file.ts'
import type { Disk } from './disk.ts'
import { replaceFile } from './durable-file.ts'
import { identityPath, type JournalIdentity, nextIdentity, readIdentity } from './epoch.ts'
import { type JournalRecovery, recoverJournal } from './recovery.ts'

export interface JournalPlace {
  readonly directory: string
  readonly shippedSegment: number
  readonly log: Log
}

export interface JournalStart {
  readonly recovery: JournalRecovery
  readonly identity: JournalIdentity
}

/** Throws the disk's error; it can be tried again. */
export function startAnew(disk: Disk, place: JournalPlace, nowMs: number): JournalStart {
  const { directory, shippedSegment, log } = place
  const { identity: stored, isDamaged } = readIdentity(disk, directory)
  if (isDamaged) log('error', 'the epoch of the journal is unreadable: the segments name it')
  const recovery = recoverJournal(disk, {
    directory,
    fromIndex: shippedSegment,
    journalId: stored?.journal_id ?? null,
  })
  for (const { level, message, fields } of recovery.notices) log(level, message, fields)
  if (stored !== null && stored.epoch > (recovery.lastEpoch ?? stored.epoch)) {
    const fields = { epoch: stored.epoch }
    log('warn', 'no segment is of the last start: it ended at once, or records are missing', fields)
  }
  const identity = nextIdentity(stored, recovery, nowMs)
  replaceFile(disk, identityPath(directory), encodeChecked(identity))
  return { recovery, identity }
}
