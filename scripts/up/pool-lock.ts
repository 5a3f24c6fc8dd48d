/**
 * One supervisor per data directory. The lock file holds the owner's pid; a lock whose owner is
 * gone (SIGKILL, power loss) is taken over.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { CliError } from '../lib/cli-error.ts'

/** Returns the release function. Throws `refused` while another process holds the lock. */
export function acquirePoolLock(path: string): () => void {
  for (;;) {
    try {
      writeFileSync(path, String(process.pid), { flag: 'wx', mode: 0o600 })
      return () => rmSync(path, { force: true })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    const owner = Number(readFileSync(path, 'utf8'))
    if (isAlive(owner)) {
      throw new CliError(
        'refused',
        `a pool already runs from this data directory (process ${owner})`,
        'Stop it first, or set NOZZLE_DATA_DIR to another directory.',
      )
    }
    rmSync(path, { force: true })
  }
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
