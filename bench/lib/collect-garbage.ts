/** For whoever weighs what a process still holds. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')
const collect: unknown = runInNewContext('gc')

/** All of this process's garbage that is known to be dead by now. */
export function collectGarbage(): void {
  if (typeof collect !== 'function') throw new Error('this Node lets nobody collect garbage')
  collect()
}

/** JavaScript's own memory and what hangs on it, in bytes, without garbage. */
export function liveBytes(): number {
  collectGarbage()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}
