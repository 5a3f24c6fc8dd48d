/**
 * What a host's refusal means here: the error that the client hears, and whether another host may
 * be asked. A host bills nothing for what it refuses before the first token; what it may bill of an
 * answer that broke off, nobody knows before it is back.
 */
import { z } from 'zod'
import { hostErrorBody, type Usage } from '#protocol'
import { EdgeError, type EdgeErrorCode } from '../errors.ts'

export interface HostFailure {
  readonly type: 'failure'
  /** The host's own code, for metrics; `unreachable` and `broken_off` are ours. */
  readonly hostCode: string
  readonly error: EdgeError
  /** Another host may answer the same request. */
  readonly isRetryable: boolean
  /** The host itself is in doubt, not this one request. */
  readonly isHostSuspect: boolean
  /** The host would refuse this tenant's next request, too: it is full, or has a full disk. */
  readonly isBusy: boolean
  /** The host may have a usage event for this attempt, now or when it comes back. */
  readonly mayOwe: boolean
}

interface Meaning {
  readonly code: EdgeErrorCode
  readonly isRetryable: boolean
  /** Absent = the host's own words, which name field and reason. */
  readonly message?: string
}

const BUSY = 'The pool is busy. Please retry.'
const BROKEN = 'The host that served this request failed.'

/** By the codes of gpu-host/errors.ts; what is not here is `host_failed`. */
const MEANINGS: Readonly<Record<string, Meaning>> = {
  invalid_request: { code: 'invalid_request', isRetryable: false },
  context_length_exceeded: { code: 'context_length_exceeded', isRetryable: false },
  payload_too_large: { code: 'payload_too_large', isRetryable: false },
  adapter_invalid: { code: 'adapter_invalid', isRetryable: false },
  // Not a failure of the host: it would count towards an ejection that a tenant can bring about.
  logits_not_finite: { code: 'adapter_invalid', isRetryable: false },
  upload_incomplete: { code: 'upload_incomplete', isRetryable: false },
  // Clocks that differ: another host's may not.
  grant_expired: { code: 'host_failed', isRetryable: true, message: BROKEN },
  request_timeout: { code: 'host_failed', isRetryable: true, message: BROKEN },
  engine_failed: { code: 'host_failed', isRetryable: true, message: BROKEN },
  queue_full: { code: 'overloaded', isRetryable: true, message: BUSY },
  upload_limit_reached: { code: 'overloaded', isRetryable: true, message: BUSY },
  journal_full: { code: 'overloaded', isRetryable: true, message: BUSY },
  disk_full: { code: 'overloaded', isRetryable: true, message: BUSY },
  host_draining: {
    code: 'overloaded',
    isRetryable: true,
    message: 'The host is shutting down. Please retry.',
  },
  adapter_not_found: {
    code: 'adapter_unavailable',
    isRetryable: true,
    message: "The model's adapter is not in the store that its host reads.",
  },
  adapter_load_failed: {
    code: 'adapter_unavailable',
    isRetryable: true,
    message: "The model's adapter could not be loaded. Please retry.",
  },
  // Another host may have the adapter on its disk.
  store_unavailable: {
    code: 'adapter_unavailable',
    isRetryable: true,
    message: 'The adapter store does not answer at the moment. Please retry.',
  },
  deadline_exceeded: {
    code: 'deadline_exceeded',
    isRetryable: true,
    message: 'The request waited too long for its turn. Please retry.',
  },
}
const UNKNOWN: Meaning = { code: 'host_failed', isRetryable: false, message: BROKEN }

/**
 * A refusal in the host's own words, from a reply's body or an `error` event; the event says what
 * is billed all the same.
 */
export function toHostFailure(refusal: {
  readonly code: string
  readonly message: string
  readonly param?: string | null | undefined
  readonly retry_after_ms?: number | null
  readonly usage?: Usage | null
}): HostFailure {
  const meaning = Object.hasOwn(MEANINGS, refusal.code)
    ? (MEANINGS[refusal.code] ?? UNKNOWN)
    : UNKNOWN
  const error = new EdgeError(meaning.code, meaning.message ?? refusal.message, {
    param: refusal.param ?? null,
    retryAfterMs: refusal.retry_after_ms || null,
    cause: new Error(`host: ${refusal.code}: ${refusal.message}`),
  })
  const { code: hostCode, usage } = refusal
  const { isRetryable } = meaning
  const isHostSuspect = hostCode === 'engine_failed'
  const isBusy = meaning.message === BUSY
  const mayOwe = usage != null && usage.prompt_tokens > 0
  return { type: 'failure', hostCode, error, isRetryable, isHostSuspect, isBusy, mayOwe }
}

/** A reply other than 2xx. */
export function parseHostFailure(status: number, text: string): HostFailure {
  const parsed = z
    .string()
    .transform((json) => JSON.parse(json) as unknown)
    .pipe(hostErrorBody)
    .safeParse(text)
  if (parsed.success) return toHostFailure(parsed.data.error)
  return wrongReply(`status ${status}: ${text.slice(0, 200)}`)
}

/** Something answers there that is no host, or answers something else. */
export function wrongReply(reason: string): HostFailure {
  const cause = new Error(`host: wrong reply: ${reason}`)
  return lost('wrong_reply', new EdgeError('host_failed', BROKEN, { cause }))
}

/** No connection, or silence before the first byte. */
export function unreachable(cause: unknown): HostFailure {
  const error = new EdgeError('no_host_available', 'No host can be reached. Please retry.', {
    cause,
  })
  return lost('unreachable', error)
}

/** The stream stopped before its end. */
export function brokenOff(cause: unknown): HostFailure {
  return lost('broken_off', new EdgeError('host_failed', BROKEN, { cause }))
}

/** The host ended the request, and nobody had asked it to. */
export function gaveUp(finish: string): HostFailure {
  const cause = new Error(`host: ended with ${finish}`)
  const error = new EdgeError('host_failed', 'The host gave the request up.', { cause })
  return { ...lost('gave_up', error), isHostSuspect: false }
}

function lost(hostCode: string, error: EdgeError): HostFailure {
  return {
    type: 'failure',
    hostCode,
    error,
    isRetryable: true,
    isHostSuspect: true,
    isBusy: false,
    mayOwe: true,
  }
}
