/**
 * Preloaded into a process of the pool benches: says over IPC what it still holds after its garbage
 * is collected. Resident memory swings by hundreds of MiB with the collector's moods; a leak shows
 * here within minutes.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { z } from 'zod'

/** Set in a process that is weighed. */
const VARIABLE = 'NOZZLE_BENCH_LIVE_MEMORY'
export const LIVE_MEMORY_ENVIRONMENT = { [VARIABLE]: '1' }

const question = z.object({ type: z.literal('weigh') })
const answer = z.object({ type: z.literal('live_memory'), bytes: z.int() })

/** What one process says of itself, asked one question after the other. */
export class LiveMemory {
  #take = (_bytes: number): void => {}

  /** Sees what the process says. */
  readonly onMessage = (message: unknown): void => {
    const { data } = answer.safeParse(message)
    if (data !== undefined) this.#take(data.bytes)
  }

  /** JavaScript's own memory and what hangs on it, bytes; the engine's is not among it. */
  of(process: { tell(message: object): void }): Promise<number> {
    return new Promise((resolve) => {
      this.#take = resolve
      process.tell({ type: 'weigh' } satisfies z.infer<typeof question>)
    })
  }
}

if (process.env[VARIABLE] !== undefined) {
  setFlagsFromString('--expose-gc')
  const collect: unknown = runInNewContext('gc')
  if (typeof collect !== 'function') throw new Error('this Node lets nobody collect garbage')
  process.on('message', (message) => {
    if (!question.safeParse(message).success) return
    collect()
    const { heapUsed, external } = process.memoryUsage()
    const reply: z.infer<typeof answer> = { type: 'live_memory', bytes: heapUsed + external }
    process.send?.(reply)
  })
}
