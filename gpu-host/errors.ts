/**
 * HostError and the one table that maps its codes to HTTP. Codes are stable: edge and CLI match on
 * them, never on class or message. `isRetryable` says whether another host, or this one a little
 * later, may answer the same request; nothing retryable has billed a token.
 */
import type { HostErrorBody } from './protocol.ts'

interface ErrorRow {
  readonly status: number
  readonly isRetryable: boolean
  /** Retry hint where the thrower knows no better. */
  readonly retryAfterMs?: number
}

export const HOST_ERRORS = {
  invalid_request: { status: 400, isRetryable: false },
  context_length_exceeded: { status: 400, isRetryable: false },
  grant_invalid: { status: 401, isRetryable: false },
  grant_expired: { status: 401, isRetryable: true, retryAfterMs: 0 },
  grant_replayed: { status: 401, isRetryable: false },
  grant_mismatch: { status: 403, isRetryable: false },
  not_found: { status: 404, isRetryable: false },
  adapter_not_found: { status: 404, isRetryable: false },
  method_not_allowed: { status: 405, isRetryable: false },
  request_timeout: { status: 408, isRetryable: true },
  request_duplicate: { status: 409, isRetryable: false },
  upload_incomplete: { status: 409, isRetryable: false },
  payload_too_large: { status: 413, isRetryable: false },
  adapter_invalid: { status: 422, isRetryable: false },
  /** The adapter overflows on this text: on every host, so none of them is at fault. */
  logits_not_finite: { status: 422, isRetryable: false },
  request_aborted: { status: 499, isRetryable: false },
  engine_failed: { status: 500, isRetryable: true },
  internal_error: { status: 500, isRetryable: false },
  adapter_load_failed: { status: 502, isRetryable: true },
  queue_full: { status: 503, isRetryable: true, retryAfterMs: 1000 },
  upload_limit_reached: { status: 503, isRetryable: true, retryAfterMs: 2000 },
  host_draining: { status: 503, isRetryable: true, retryAfterMs: 1000 },
  journal_full: { status: 503, isRetryable: true, retryAfterMs: 10_000 },
  journal_failed: { status: 503, isRetryable: true, retryAfterMs: 1000 },
  journal_locked: { status: 503, isRetryable: true },
  store_unavailable: { status: 503, isRetryable: true, retryAfterMs: 2000 },
  deadline_exceeded: { status: 504, isRetryable: true },
  disk_full: { status: 507, isRetryable: true },
} as const satisfies Record<string, ErrorRow>

export type HostErrorCode = keyof typeof HOST_ERRORS

export interface HostErrorOptions {
  /** Field or file at fault. */
  readonly param?: string
  readonly retryAfterMs?: number
  /** Goes to the log, never to the wire. */
  readonly cause?: unknown
}

/** An outcome that the caller is told about. `message` is public; `cause` is not. */
export class HostError extends Error {
  override readonly name = 'HostError'
  readonly code: HostErrorCode
  readonly param: string | null
  readonly retryAfterMs: number | null

  constructor(code: HostErrorCode, message: string, options: HostErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    const row: ErrorRow = HOST_ERRORS[code]
    this.code = code
    this.param = options.param ?? null
    this.retryAfterMs = options.retryAfterMs ?? row.retryAfterMs ?? null
  }

  get status(): number {
    return HOST_ERRORS[this.code].status
  }

  get isRetryable(): boolean {
    return HOST_ERRORS[this.code].isRetryable
  }

  toBody(): HostErrorBody {
    const { code, message, param, retryAfterMs } = this
    return { error: { code, message, param, retry_after_ms: retryAfterMs } }
  }
}

/** The stable code of anything thrown: HostError's and EngineError's own, Node's errno, or null. */
export function errorCodeOf(error: unknown): string | null {
  if (typeof error !== 'object' || error === null || !('code' in error)) return null
  return typeof error.code === 'string' ? error.code : null
}

/**
 * Anything thrown → HostError; what is not one becomes `fallback`, its own text kept from the wire.
 */
export function toHostError(
  error: unknown,
  fallback: HostErrorCode,
  publicMessage: string,
): HostError {
  if (error instanceof HostError) return error
  return new HostError(fallback, publicMessage, { cause: error })
}
