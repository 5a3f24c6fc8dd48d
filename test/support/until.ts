/**
 * Waiting for what other processes do: asked again and again, with a deadline, never a fixed time.
 */
import { setTimeout as sleep } from 'node:timers/promises'

const POLL_MS = 25
const DEADLINE_MS = 60_000

/** Resolves to the first answer that is not null. Rejects past the deadline, saying what lacked. */
export async function until<T>(
  what: string,
  ask: () => T | null | Promise<T | null>,
  deadlineMs = DEADLINE_MS,
): Promise<T> {
  const end = performance.now() + deadlineMs
  for (;;) {
    const answer = await ask()
    if (answer !== null) return answer
    if (performance.now() > end) throw new Error(`not within ${deadlineMs} ms: ${what}`)
    await sleep(POLL_MS)
  }
}
