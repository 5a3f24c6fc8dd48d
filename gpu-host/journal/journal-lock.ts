/**
 * One process per journal: a host that wakes from a hang must not write where its successor has
 * recovered. The lock is the kernel's, on a file in the directory, and goes with the process,
 * however that ends, so none is ever stale. Node has no call for file locks but through its SQLite,
 * whose exclusive transaction holds one for as long as it stays open.
 */
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { HostError } from '../errors.ts'

/** SQLite: another connection holds the lock. */
const BUSY = 5

/** Returns the release; idempotent. Throws `journal_locked` while it is held, here or elsewhere. */
export function lockJournal(directory: string): () => void {
  const file = new DatabaseSync(join(directory, 'lock'), { timeout: 0 })
  try {
    file.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE')
  } catch (cause) {
    file.close()
    const isHeld = cause instanceof Error && 'errcode' in cause && cause.errcode === BUSY
    if (!isHeld) throw cause
    throw new HostError('journal_locked', `the journal ${directory} is in use by another host`, {
      cause,
    })
  }
  return () => {
    if (file.isOpen) file.close()
  }
}
