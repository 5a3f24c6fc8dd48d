/** The processes below a pool's supervisor, told apart by what they run. */
import type { DataDir } from '../../scripts/lib/data-dir.ts'
import { childMark, commandOf, readChildren } from '../../scripts/up/leftover-children.ts'
import { EDGE_ENTRIES } from './pool-home.ts'

export interface PoolChildren {
  readonly edge: number
  readonly host: number
}

/** Throws when one of the two does not live. */
export function findChildren(dir: DataDir): PoolChildren {
  const find = (...entries: string[]): number => {
    const pid = livingChildren(dir).find((child) =>
      entries.some((entry) => commandOf(child).includes(entry)),
    )
    if (pid === undefined) throw new Error(`no process of ${entries.join(' or ')} lives`)
    return pid
  }
  return { edge: find(...Object.values(EDGE_ENTRIES)), host: find('gpu-host/index.ts') }
}

export function livingChildren(dir: DataDir): number[] {
  return readChildren(dir).filter((pid) => commandOf(pid).includes(childMark(dir)))
}

/** After a test of kills that failed: what it left must not outlive it. */
export function killLivingChildren(dir: DataDir): void {
  for (const pid of livingChildren(dir)) process.kill(pid, 'SIGKILL')
}
