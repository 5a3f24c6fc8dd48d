/**
 * Preloaded into a process of the pool benches: says over IPC what it still holds after its garbage
 * is collected. Resident memory swings by hundreds of MiB with the collector's moods; a leak shows
 * here within minutes.
 */
import { z } from 'zod'
import { liveBytes } from '../lib/collect-garbage.ts'

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
  process.on('message', (message) => {
    if (!question.safeParse(message).success) return
    const reply: z.infer<typeof answer> = { type: 'live_memory', bytes: liveBytes() }
    process.send?.(reply)
  })
}
