/**
 * Holds every reply of an edge under test against the API document: whatever a test does, what
 * comes back must be what `/openapi.json` says. Streams and files pass through untouched.
 */
import type { Hono } from 'hono'
import { OPERATIONS } from '../../api/document.ts'
import { errorReply } from '../../openai/reply-schemas.ts'
import type { EdgeEnv } from '../../request-context.ts'

type Fetch = Hono<EdgeEnv>['fetch']

/** `note` hears of each reply that is not as the document says. */
export function checkReplies(fetch: Fetch, note: (finding: string) => void): Fetch {
  return async (request, env, context) => {
    const response = await fetch(request, env, context)
    const isJson = response.headers.get('content-type')?.startsWith('application/json') === true
    if (!isJson) return response
    const { method, url } = request
    const { pathname } = new URL(url)
    const text = await response.clone().text()
    const finding = findMismatch(method, pathname, response.status, text)
    if (finding !== null) note(`${method} ${pathname}: ${response.status} ${finding}\n${text}`)
    return response
  }
}

/** The document itself, and what pages ask for. */
const NOT_API = /^\/(openapi\.json|ui\/.*)$/
const ROUTES = OPERATIONS.map((operation) => ({
  operation,
  pattern: new RegExp(
    `^${operation.path.replaceAll(/:[a-z]+\{\.\+\}/g, '.+').replaceAll(/:[a-z]+/g, '[^/]+')}$`,
  ),
}))

function findMismatch(method: string, path: string, status: number, text: string): string | null {
  const isError = status >= 400
  const route = ROUTES.find(
    ({ operation, pattern }) => operation.method === method.toLowerCase() && pattern.test(path),
  )
  // An unknown route answers with an error.
  if (route === undefined && !isError) return NOT_API.test(path) ? null : 'is not documented'
  const reply = isError ? { schema: errorReply } : route?.operation.replies[status]
  if (reply === undefined) return 'is no status of it'
  if (reply.schema === null) return null
  const parsed = reply.schema.safeParse(JSON.parse(text))
  return parsed.success ? null : JSON.stringify(parsed.error.issues)
}
