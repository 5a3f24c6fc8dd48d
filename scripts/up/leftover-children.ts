/**
 * Children of a supervisor that was killed. They leave by themselves when their channel closes, the
 * host after its drain; until then database and journal are theirs, so a new start waits for them.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { type DataDir, writePrivateFile } from '../lib/data-dir.ts'

const POLL_MS = 100
/** The host's default drain grace, and its slack. */
const WAIT_MAX_MS = 60_000

const childrenFile = z.array(z.int().positive())

/** Shows in a child's command line, so that another process with its old id is told apart. */
export function childMark(dir: DataDir): string {
  return `--data-dir=${dir.root}/`
}

/** Notes the processes that a later start must wait for. */
export function recordChildren(dir: DataDir, pids: readonly number[]): void {
  writePrivateFile(dir.childrenFile, JSON.stringify(pids))
}

/** Resolves when no child of an earlier supervisor lives; those that stay too long are killed. */
export async function waitForLeftovers(
  dir: DataDir,
  note: (text: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const deadline = performance.now() + WAIT_MAX_MS
  let isNoted = false
  for (;;) {
    const living = readChildren(dir).filter((pid) => commandOf(pid).includes(childMark(dir)))
    if (living.length === 0) break
    if (!isNoted) note(`waiting for the pool that was killed here (${living.join(', ')}) to go`)
    isNoted = true
    if (performance.now() > deadline) living.forEach(killIfAlive)
    await sleep(POLL_MS, undefined, { signal })
  }
  rmSync(dir.childrenFile, { force: true })
}

/** Process ids as they were last noted; some may be gone. */
export function readChildren(dir: DataDir): number[] {
  if (!existsSync(dir.childrenFile)) return []
  try {
    return childrenFile.parse(JSON.parse(readFileSync(dir.childrenFile, 'utf8')))
  } catch {
    // Cut off by a crash: nothing is known, and the locks of database and journal still guard.
    return []
  }
}

/** Arguments of a running process in one text; empty when it is gone. */
export function commandOf(pid: number): string {
  try {
    if (existsSync('/proc/self')) return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
  return spawnSync('ps', ['-o', 'args=', '-p', String(pid)], { encoding: 'utf8' }).stdout ?? ''
}

function killIfAlive(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
