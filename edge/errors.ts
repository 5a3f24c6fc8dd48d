/**
 * EdgeError and the one table that maps its codes to HTTP and to OpenAI's error object. Codes are
 * stable: clients match on them. SDKs retry 408, 409, 429 and ≥ 500 by themselves, so a state that
 * lasts never has one of these without `shouldRetry: false`.
 */
import { isBadText, isOutage } from '#db/errors.ts'
import { ERROR_MESSAGE_CHARACTERS_MAX, ERROR_PARAM_CHARACTERS_MAX } from './limits.ts'

type ErrorType =
  | 'invalid_request_error'
  | 'permission_error'
  | 'server_error'
  | 'service_unavailable_error'
  | 'rate_limit_error'
  | 'insufficient_quota'

export interface ErrorRow {
  readonly status:
    | 400
    | 401
    | 403
    | 404
    | 408
    | 409
    | 413
    | 422
    | 429
    | 431
    | 499
    | 500
    | 502
    | 503
    | 504
  readonly type: ErrorType
  /** Hint where the thrower knows no better. */
  readonly retryAfterMs?: number
  /** Sent as `x-should-retry`; absent = the status decides. */
  readonly shouldRetry?: boolean
}

export const EDGE_ERRORS = {
  invalid_request: { status: 400, type: 'invalid_request_error' },
  unsupported_parameter: { status: 400, type: 'invalid_request_error' },
  unknown_parameter: { status: 400, type: 'invalid_request_error' },
  context_length_exceeded: { status: 400, type: 'invalid_request_error' },
  missing_api_key: { status: 401, type: 'invalid_request_error' },
  invalid_api_key: { status: 401, type: 'invalid_request_error' },
  host_signature_invalid: { status: 401, type: 'invalid_request_error' },
  permission_denied: { status: 403, type: 'permission_error' },
  not_found: { status: 404, type: 'invalid_request_error' },
  model_not_found: { status: 404, type: 'invalid_request_error' },
  /** The client is too slow; SDKs try it again. */
  request_timeout: { status: 408, type: 'invalid_request_error' },
  host_epoch_stale: { status: 409, type: 'invalid_request_error', shouldRetry: false },
  /** Some of its files have not arrived: to be planned anew, not tried again. */
  upload_incomplete: { status: 409, type: 'invalid_request_error', shouldRetry: false },
  payload_too_large: { status: 413, type: 'invalid_request_error' },
  headers_too_large: { status: 431, type: 'invalid_request_error' },
  /** SDKs try it again, and find the reply. */
  idempotency_in_progress: { status: 409, type: 'invalid_request_error', retryAfterMs: 1000 },
  idempotency_key_reused: { status: 422, type: 'invalid_request_error' },
  idempotency_reply_unavailable: { status: 422, type: 'invalid_request_error' },
  /** Not 409: SDKs would try it again. */
  name_taken: { status: 422, type: 'invalid_request_error' },
  invoice_not_due: { status: 422, type: 'invalid_request_error' },
  adapter_invalid: { status: 422, type: 'invalid_request_error' },
  host_in_use: { status: 422, type: 'invalid_request_error' },
  version_unavailable: { status: 422, type: 'invalid_request_error' },
  /** Somebody else changed it at the same moment. */
  deployment_changed: { status: 409, type: 'invalid_request_error' },
  rate_limit_exceeded: { status: 429, type: 'rate_limit_error' },
  /** The month will not be over when an SDK tries again. */
  insufficient_quota: { status: 429, type: 'insufficient_quota', shouldRetry: false },
  request_aborted: { status: 499, type: 'invalid_request_error' },
  internal_error: { status: 500, type: 'server_error' },
  /** A host broke off, or refused what this edge sent. */
  host_failed: { status: 502, type: 'server_error' },
  no_host_available: { status: 503, type: 'service_unavailable_error', retryAfterMs: 2000 },
  overloaded: { status: 503, type: 'service_unavailable_error', retryAfterMs: 1000 },
  adapter_unavailable: { status: 503, type: 'service_unavailable_error', retryAfterMs: 2000 },
  deadline_exceeded: { status: 503, type: 'service_unavailable_error', retryAfterMs: 2000 },
  database_unavailable: { status: 503, type: 'service_unavailable_error', retryAfterMs: 1000 },
} as const satisfies Record<string, ErrorRow>

export type EdgeErrorCode = keyof typeof EDGE_ERRORS

export interface EdgeErrorOptions {
  /** Field of the request at fault. */
  readonly param?: string | null
  readonly retryAfterMs?: number | null
  /** Absent = as the code has it. */
  readonly shouldRetry?: boolean
  /** Goes to the log, never to the wire. */
  readonly cause?: unknown
}

/** What OpenAI's SDKs read of a failed call, in a reply's body or in a stream's frame. */
export interface ErrorBody {
  readonly error: {
    readonly message: string
    readonly type: ErrorType
    readonly param: string | null
    readonly code: EdgeErrorCode
  }
}

/** An outcome that the caller is told about. `message` is public; `cause` is not. */
export class EdgeError extends Error {
  override readonly name = 'EdgeError'
  readonly code: EdgeErrorCode
  readonly param: string | null
  readonly retryAfterMs: number | null
  /** Sent as `x-should-retry`; null = the status decides. */
  readonly shouldRetry: boolean | null

  constructor(code: EdgeErrorCode, message: string, options: EdgeErrorOptions = {}) {
    const words = cut(message, ERROR_MESSAGE_CHARACTERS_MAX)
    super(words, options.cause === undefined ? undefined : { cause: options.cause })
    const row: ErrorRow = EDGE_ERRORS[code]
    this.code = code
    this.param = options.param == null ? null : cut(options.param, ERROR_PARAM_CHARACTERS_MAX)
    this.retryAfterMs = options.retryAfterMs ?? row.retryAfterMs ?? null
    this.shouldRetry = options.shouldRetry ?? row.shouldRetry ?? null
  }

  get status(): ErrorRow['status'] {
    return EDGE_ERRORS[this.code].status
  }

  toBody(): ErrorBody {
    const { message, param, code } = this
    return { error: { message, type: EDGE_ERRORS[code].type, param, code } }
  }

  /** Headers that go with the status. */
  toHeaders(): Record<string, string> {
    const headers: Record<string, string> = {}
    if (this.retryAfterMs !== null) {
      headers['retry-after'] = String(Math.ceil(this.retryAfterMs / 1000))
      headers['retry-after-ms'] = String(this.retryAfterMs)
    }
    if (this.shouldRetry !== null) headers['x-should-retry'] = String(this.shouldRetry)
    return headers
  }
}

/** Both may quote what a client made up, of any length. */
function cut(text: string, charactersMax: number): string {
  return text.length <= charactersMax ? text : `${text.slice(0, charactersMax - 1)}…`
}

/** A field of the request that is wrong. */
export function invalid(param: string, why: string): EdgeError {
  return new EdgeError('invalid_request', `${param}: ${why}`, { param })
}

/** A field of the request that cannot be honoured. */
export function unsupported(param: string, why: string): EdgeError {
  return new EdgeError('unsupported_parameter', `Unsupported parameter: "${param}". ${why}`, {
    param,
  })
}

/** The database does not answer; what is known does not suffice. */
export function databaseUnavailable(cause?: unknown): EdgeError {
  const message = 'The database does not answer at the moment. Please retry.'
  return new EdgeError('database_unavailable', message, { cause: innermost(cause) })
}

/** Below what a driver adds: whole statements with their values, which no log line should hold. */
function innermost(error: unknown): unknown {
  return error instanceof Error && error.cause !== undefined ? innermost(error.cause) : error
}

/**
 * Anything thrown → EdgeError; what is not one is `internal_error`, its own text kept from the
 * wire.
 */
export function toEdgeError(error: unknown): EdgeError {
  if (error instanceof EdgeError) return error
  if (isOutage(error)) return databaseUnavailable(error)
  if (isBadText(error)) {
    const message = 'A name or value holds a character that is not stored, such as NUL: remove it.'
    return new EdgeError('invalid_request', message, { cause: innermost(error) })
  }
  return new EdgeError('internal_error', 'the edge failed', { cause: error })
}

/** What a log line may say of anything thrown, with the reasons below it. */
export function errorText(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const own = discreet(error) || error.name
  return error.cause === undefined ? own : `${own}: ${errorText(error.cause)}`
}

/**
 * A message without what it may quote, since that may be a prompt, an answer or a key: a parser
 * quotes its input, and the query builder the parameters of a statement that failed.
 */
function discreet(error: Error): string {
  if (error instanceof SyntaxError) return 'not valid JSON'
  const [words = ''] = error.message.split('\nparams: ', 1)
  return words
}
