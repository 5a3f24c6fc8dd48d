/**
 * The CLI's way to the edge: one HTTP call, OpenAI-shaped errors turned into CliErrors.
 */
import { CliError, type ExitReason } from './cli-error.ts'

export interface ApiTarget {
  readonly edgeUrl: string
  readonly apiKey: string
}

export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly path: string
  readonly json?: unknown
  readonly form?: FormData
  readonly signal?: AbortSignal
}

/** The reply itself, for streams. Throws CliError on any non-2xx status. */
export async function sendToEdge(target: ApiTarget, request: ApiRequest): Promise<Response> {
  const headers: Record<string, string> = { authorization: `Bearer ${target.apiKey}` }
  if (request.json !== undefined) headers['content-type'] = 'application/json'
  let response: Response
  try {
    response = await fetch(new URL(request.path, target.edgeUrl), {
      method: request.method,
      headers,
      body: request.form ?? (request.json === undefined ? null : JSON.stringify(request.json)),
      signal: request.signal ?? null,
    })
  } catch (error) {
    if (request.signal?.aborted) throw error
    throw new CliError(
      'unavailable',
      `the edge at ${target.edgeUrl} does not answer`,
      'Start it with `nozzle up`, or name another with --edge-url.',
    )
  }
  if (response.ok) return response
  throw await toCliError(response)
}

/** The reply's JSON body, unchecked: commands read fields they know and print the rest as it is. */
export async function callEdge<T>(target: ApiTarget, request: ApiRequest): Promise<T> {
  const response = await sendToEdge(target, request)
  // The edge's own tests fix these shapes; the CLI trusts its own edge.
  return (await response.json()) as T
}

async function toCliError(response: Response): Promise<CliError> {
  const text = await response.text()
  let message = text.slice(0, 500)
  let field: string | null = null
  try {
    const body = JSON.parse(text) as { error?: { message?: string; param?: string | null } }
    message = body.error?.message ?? message
    field = body.error?.param ?? null
  } catch {
    // Not ours (a proxy's page, say): its text is the best there is.
  }
  const requestId = response.headers.get('x-request-id')
  const where = requestId ? ` (request ${requestId})` : ''
  return new CliError(
    toExitReason(response.status),
    `${message}${where}`,
    field ? `Look at: ${field}` : null,
  )
}

function toExitReason(status: number): ExitReason {
  if (status === 401 || status === 403) return 'unauthorized'
  if (status === 404) return 'not_found'
  if (status >= 500) return 'unavailable'
  return 'refused'
}
