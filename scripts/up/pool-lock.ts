/**
 * One supervisor per data directory. The lock is the operating system's and ends with the process,
 * however that ends, so there is no stale lock to judge.
 */
import { lockDirectory } from '#db/directory-lock.ts'
import { CliError } from '../lib/cli-error.ts'

/** Returns the release function. Throws `refused` while another process holds the lock. */
export function acquirePoolLock(dataDirectory: string): () => void {
  try {
    return lockDirectory(`${dataDirectory}/up`)
  } catch (error) {
    const isHeld = error instanceof Error && 'code' in error && error.code === 'database_locked'
    if (!isHeld) throw error
    throw new CliError(
      'refused',
      `a pool already runs from ${dataDirectory}`,
      'Stop it first, or set NOZZLE_DATA_DIR to another directory.',
    )
  }
}
