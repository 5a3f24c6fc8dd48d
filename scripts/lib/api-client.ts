/**
 * The CLI's way to the edge: one HTTP call, the reply parsed, OpenAI-shaped errors turned into
 * CliErrors.
 */
import type { z } from 'zod'
import { CliError, type ExitReason } from './cli-error.ts'

export interface ApiTarget {
  readonly edgeUrl: string
  readonly apiKey: string
}

export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  readonly path: string
  readonly json?: unknown
  /** A body that is sent as it comes, with its media type. */
  readonly stream?: { readonly body: ReadableStream<Uint8Array>; readonly contentType: string }
  readonly signal?: AbortSignal
}

/** The edge understood, and refused. */
export class EdgeRefusal extends CliError {
  /** Of the edge's table; null where the reply is not of the edge. */
  readonly code: string | null

  constructor(reason: ExitReason, message: string, fix: string | null, code: string | null) {
    super(reason, message, fix)
    this.code = code
  }
}

/** The reply itself, for streams. Throws CliError on any non-2xx status. */
export async function sendToEdge(target: ApiTarget, request: ApiRequest): Promise<Response> {
  let response: Response
  try {
    response = await fetch(new URL(request.path, target.edgeUrl), toInit(target, request))
  } catch (error) {
    if (request.signal?.aborted) throw error
    throw new CliError(
      'unavailable',
      `the edge at ${target.edgeUrl} does not answer${causeOf(error)}`,
      'Start it with `nozzle up`, or name another with --edge-url; `nozzle doctor` finds out more.',
    )
  }
  if (response.ok) return response
  throw await toRefusal(response)
}

/** The reply's JSON body, checked. Throws CliError on any non-2xx status. */
export async function callEdge<T>(
  target: ApiTarget,
  request: ApiRequest,
  reply: z.ZodType<T>,
): Promise<T> {
  const response = await sendToEdge(target, request)
  const parsed = reply.safeParse(await response.json().catch(() => null))
  if (parsed.success) return parsed.data
  const field = parsed.error.issues[0]?.path.join('.') || 'body'
  throw new CliError(
    'unexpected',
    `${request.method} ${request.path}: the reply is not as expected at ${field}`,
    'Use a CLI of the same version as the edge.',
  )
}

/** Path of the parts, each escaped. */
export function toPath(...parts: readonly string[]): string {
  return `/${parts.map(encodeURIComponent).join('/')}`
}

function toInit(target: ApiTarget, request: ApiRequest): RequestInit {
  const headers: Record<string, string> = { authorization: `Bearer ${target.apiKey}` }
  const { method, json, stream, signal = null } = request
  if (stream) {
    headers['content-type'] = stream.contentType
    return { method, headers, body: stream.body, duplex: 'half', signal }
  }
  if (json === undefined) return { method, headers, signal }
  headers['content-type'] = 'application/json'
  return { method, headers, body: JSON.stringify(json), signal }
}

/** fetch hides the reason in `cause`: ECONNREFUSED, ENOTFOUND … */
function causeOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : null
  if (!(cause instanceof Error) || !('code' in cause)) return ''
  return ` (${String(cause.code)})`
}

async function toRefusal(response: Response): Promise<EdgeRefusal> {
  const { message, field, code } = readErrorBody(await response.text(), response.status)
  const requestId = response.headers.get('x-request-id')
  const retryAfter = response.headers.get('retry-after')
  const hints = [
    fixOf(code) ?? (field ? `Correct ${field}.` : null),
    retryAfter ? `Try again in ${retryAfter} s.` : null,
  ].filter((hint) => hint !== null)
  return new EdgeRefusal(
    toExitReason(response),
    requestId ? `${message} (request ${requestId})` : message,
    hints.length > 0 ? hints.join(' ') : null,
    code,
  )
}

function fixOf(code: string | null): string | null {
  if (code === 'model_not_found') return '`nozzle model ls` lists the models of the tenant.'
  if (code === 'context_length_exceeded') {
    return 'Shorten it, or start the pool with a larger NOZZLE_CONTEXT_LENGTH.'
  }
  if (code === 'invalid_api_key') {
    return 'Keys are taken from --api-key, NOZZLE_API_KEY, the profile, the data directory, in this order.'
  }
  return null
}

interface ErrorText {
  readonly message: string
  readonly field: string | null
  readonly code: string | null
}

function readErrorBody(text: string, status: number): ErrorText {
  try {
    const body = JSON.parse(text) as {
      error?: { message?: unknown; param?: unknown; code?: unknown }
    } | null
    const { message, param, code } = body?.error ?? {}
    if (typeof message === 'string') {
      const field = typeof param === 'string' ? param : null
      return { message, field, code: typeof code === 'string' ? code : null }
    }
  } catch {
    // Not ours (a proxy's page, say): its text is the best there is.
  }
  return { message: text.slice(0, 500) || `the edge answered ${status}`, field: null, code: null }
}

function toExitReason({ status, headers }: Response): ExitReason {
  if (status === 401 || status === 403) return 'unauthorized'
  if (status === 404) return 'not_found'
  // A limit that lasts: a budget that is spent, a request that is larger than a limit.
  if (status === 429 && headers.get('x-should-retry') === 'false') return 'refused'
  if (status === 429 || status >= 500) return 'unavailable'
  return 'refused'
}
