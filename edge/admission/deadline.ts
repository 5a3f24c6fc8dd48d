/**
 * Until when a client has use for the first token: as it says itself (`x-nozzle-deadline-ms`), or
 * when its SDK gives up waiting (`x-stainless-timeout`, which OpenAI's SDKs send). Hosts refuse
 * what they could only answer later, instead of working for nobody. Pure.
 */
import { EdgeError } from '../errors.ts'

export const DEADLINE_HEADER = 'x-nozzle-deadline-ms'
const SDK_TIMEOUT_HEADER = 'x-stainless-timeout'
/** What the protocol can say. */
const DEADLINE_MS_MAX = 3_600_000

/**
 * Milliseconds from the request's arrival; null = the client did not say. Throws `invalid_request`
 * for a header of ours that is wrong; an SDK's own is only believed where it makes sense.
 */
export function readDeadline(header: (name: string) => string | undefined): number | null {
  const own = header(DEADLINE_HEADER)
  if (own !== undefined) {
    const ms = /^\d{1,7}$/.test(own) ? Number(own) : 0
    if (ms >= 1 && ms <= DEADLINE_MS_MAX) return ms
    throw new EdgeError(
      'invalid_request',
      `${DEADLINE_HEADER} must be whole milliseconds from 1 to ${DEADLINE_MS_MAX}`,
      { param: DEADLINE_HEADER },
    )
  }
  const text = header(SDK_TIMEOUT_HEADER) ?? ''
  // Seconds; Python writes them with a decimal point.
  const ms = /^\d{1,6}(\.\d{1,9})?$/.test(text) ? Math.ceil(Number(text) * 1000) : 0
  return ms < 1 ? null : Math.min(ms, DEADLINE_MS_MAX)
}

/** What is left of a deadline after `spentMs`, whole milliseconds, ≥ 0; null = there is none. */
export function remainingDeadline(deadlineMs: number | null, spentMs: number): number | null {
  return deadlineMs === null ? null : Math.max(0, Math.floor(deadlineMs - spentMs))
}

export function deadlineExceeded(): EdgeError {
  return new EdgeError('deadline_exceeded', 'No host could begin within the deadline.')
}
