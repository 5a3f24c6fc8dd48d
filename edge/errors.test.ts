/** Each code as the official SDK meets it: its class, what it reads, whether it tries again. */
import { Hono } from 'hono'
import OpenAI from 'openai'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { EDGE_ERRORS, EdgeError, type EdgeErrorCode } from './errors.ts'
import { type EdgeEnv, toErrorResponse } from './request-context.ts'
import { isRetriedBySdks } from './test/support/conformance-document.ts'

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
afterEach(() => void vi.useRealTimers())

const CLASSES: Readonly<Record<number, new (...args: never[]) => Error>> = {
  400: OpenAI.BadRequestError,
  401: OpenAI.AuthenticationError,
  403: OpenAI.PermissionDeniedError,
  404: OpenAI.NotFoundError,
  409: OpenAI.ConflictError,
  422: OpenAI.UnprocessableEntityError,
  429: OpenAI.RateLimitError,
}

const codes = Object.keys(EDGE_ERRORS).filter((code): code is EdgeErrorCode =>
  Object.hasOwn(EDGE_ERRORS, code),
)

it.each(codes)('%s is understood by the SDK', async (code) => {
  const app = new Hono<EdgeEnv>()
  app.post('*', (c) => toErrorResponse(new EdgeError(code, 'why', { param: 'field' }), c))
  let attempts = 0
  const sdk = new OpenAI({
    apiKey: 'none',
    baseURL: 'http://edge.test/v1',
    maxRetries: 1,
    fetch: async (url, init) => {
      attempts += 1
      return app.request(url instanceof Request ? url : String(url), init)
    },
  })
  const failed = sdk.chat.completions
    .create({ model: 'm', messages: [] })
    .catch((error: unknown) => error)
  await vi.advanceTimersByTimeAsync(60_000)
  const { status, type } = EDGE_ERRORS[code]
  const error = await failed
  const expected = status >= 500 ? OpenAI.InternalServerError : (CLASSES[status] ?? OpenAI.APIError)
  expect(error).toBeInstanceOf(expected)
  expect(error).toMatchObject({ status, code, type, param: 'field' })
  expect(attempts).toBe(isRetriedBySdks(EDGE_ERRORS[code]) ? 2 : 1)
})
