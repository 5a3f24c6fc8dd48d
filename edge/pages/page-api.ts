/**
 * The API as a page calls it: inside the process, with the visitor's session. So each rule about
 * who may do what, each limit and each check has one owner, and no page can do what the API
 * refuses.
 */
import type { ExecutionContext } from 'hono'
import type { z } from 'zod'
import { EDGE_ERRORS, EdgeError, type EdgeErrorCode } from '../errors.ts'
import type { EdgeContext } from '../request-context.ts'
import { errorReply } from './wire.ts'

/** The app that has the routes of the API. */
export interface ApiApp {
  fetch(request: Request, env?: unknown, context?: ExecutionContext): Response | Promise<Response>
}

export class PageApi {
  readonly #app: ApiApp
  readonly #c: EdgeContext
  readonly #session: string

  constructor(app: ApiApp, c: EdgeContext, session: string) {
    this.#app = app
    this.#c = c
    this.#session = session
  }

  get<T extends z.ZodType>(path: string, schema: T): Promise<z.infer<T>> {
    return this.send('GET', path, schema)
  }

  /** Throws EdgeError, as the API answered. */
  async send<T extends z.ZodType>(
    method: string,
    path: string,
    schema: T,
    body?: object,
  ): Promise<z.infer<T>> {
    const text = body === undefined ? null : JSON.stringify(body)
    const response = await this.reply(method, path, text)
    if (!response.ok) throw toError(await response.json())
    return schema.parse(await response.json())
  }

  /** As it comes: a stream, a file, an error. Its request id becomes that of the page's reply. */
  async reply(method: string, path: string, body: string | null): Promise<Response> {
    const { raw, url } = this.#c.req
    const headers = new Headers({ authorization: `Session ${this.#session}` })
    if (body !== null) headers.set('content-type', 'application/json')
    const request = new Request(new URL(path, url), { method, headers, body, signal: raw.signal })
    const response = await this.#app.fetch(request, this.#c.env, executionContextOf(this.#c))
    const requestId = response.headers.get('x-request-id')
    if (requestId !== null) this.#c.set('requestId', requestId)
    return response
  }
}

function toError(body: unknown): EdgeError {
  const { message, code, param } = errorReply.parse(body).error
  if (!isCode(code)) throw new Error(`the API answered with the unknown code "${code}"`)
  return new EdgeError(code, message, { param })
}

function isCode(code: string): code is EdgeErrorCode {
  return Object.hasOwn(EDGE_ERRORS, code)
}

function executionContextOf(c: EdgeContext): ExecutionContext | undefined {
  try {
    return c.executionCtx
  } catch {
    // Hono's word for "not a Worker".
    return undefined
  }
}
