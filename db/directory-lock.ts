/**
 * One process per PGlite directory. PGlite takes no lock itself, and two of them in one directory
 * destroy it. The lock is the operating system's, taken through SQLite on a file beside the
 * directory: it ends with the process, however that ends, so no stale lock can outlive its owner
 * and no process id is ever compared.
 */
import { mkdirSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { DatabaseError } from './errors.ts'

/** SQLite's result code for "another connection holds it". */
const SQLITE_BUSY = 5

/** Returns the release function. Throws `database_locked` while anybody holds the lock. */
export function lockDirectory(directory: string): () => void {
  const path = `${resolve(directory)}.lock`
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  const lock = new DatabaseSync(path, { timeout: 0 })
  try {
    lock.exec('pragma locking_mode = exclusive; begin exclusive')
  } catch (error) {
    lock.close()
    if (!isBusy(error)) {
      throw new DatabaseError('database_unavailable', `${path} cannot be locked`, error)
    }
    throw new DatabaseError(
      'database_locked',
      `the database in ${directory} is open already, in this process or another`,
      error,
    )
  }
  return () => {
    if (lock.isOpen) lock.close()
  }
}

function isBusy(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY
}
