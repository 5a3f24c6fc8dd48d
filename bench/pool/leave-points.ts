/** Where the clients of a pool go away: seeded, at every point of a request's life. Pure. */
import type { Random } from '../../native/test/support/random.ts'
import type { LeavePoint } from './visitor.ts'

/** Most of a request is over by then. */
const SENT_MS_MAX = 250
const TOKENS_MAX = 23
const KINDS = ['body', 'sent', 'headers', 'token', 'done', null] as const

/** A sixth of the clients stay. */
export function leaveAnywhere(random: Random): LeavePoint | null {
  const at = KINDS[random.integer(KINDS.length)] ?? null
  switch (at) {
    case 'body':
      return { at, share: random.fraction() }
    case 'sent':
      return { at, ms: random.integer(SENT_MS_MAX) }
    case 'token':
      return { at, nth: 1 + random.integer(TOKENS_MAX) }
    case 'headers':
    case 'done':
      return { at }
    case null:
      return null
  }
}
