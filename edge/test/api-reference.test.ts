/**
 * `/openapi.json` has every route and no other, and `/docs` shows all of it without a network. What
 * the document says of replies is held against every reply of all tests here (`reply-check.ts`);
 * what it says of requests against generated ones by `schemathesis.test.ts`.
 */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { z } from 'zod'
import { createApiDocument, OPERATIONS } from '../api/document.ts'
import { createApp } from '../app.ts'
import { TestPool } from './support/test-pool.ts'

/** They are for people in a browser, not for programs. */
const PAGES = [/^\/docs$/, /^\/openapi\.json$/, /^\/$/, /^\/ui(\/|$)/]

let pool: TestPool
beforeAll(async () => {
  pool = await TestPool.start()
})
afterAll(() => pool.stop())

it('has every route, and none that is not there', () => {
  const served = createApp(pool.deps)
    .routes.filter(({ method, path }) => method !== 'ALL' && !PAGES.some((page) => page.test(path)))
    .map(({ method, path }) => `${method} ${path}`)
  const documented = OPERATIONS.map(({ method, path }) => `${method.toUpperCase()} ${path}`)
  expect(documented.sort()).toEqual(served.sort())
})

it('names each operation once, and describes each parameter of a path', () => {
  const operations = Object.values(createApiDocument().paths).flatMap(Object.values)
  const ids = operations.map(({ operationId }) => operationId)
  expect(new Set(ids).size).toBe(OPERATIONS.length)
  for (const { parameters } of operations) {
    for (const parameter of parameters) {
      if (parameter.in === 'path') expect(parameter.description).not.toBe('')
    }
  }
})

it('is served to anyone, as it is made', async () => {
  const response = await fetch(`${pool.url}/openapi.json`)
  expect(response.headers.get('content-type')).toBe('application/json')
  expect(response.headers.get('access-control-allow-origin')).toBe('*')
  const document = z.looseObject({ openapi: z.literal('3.1.0') }).parse(await response.json())
  expect(document).toEqual(JSON.parse(JSON.stringify(createApiDocument())))
})

it('is a page that shows every operation and loads nothing', async () => {
  const response = await fetch(`${pool.url}/docs`)
  expect(response.status).toBe(200)
  expect(response.headers.get('content-security-policy')).toContain("default-src 'none'")
  const page = await response.text()
  for (const { id } of OPERATIONS) expect(page).toContain(`id="${id}"`)
  expect(page).toContain('<td>max_completion_tokens</td>')
  expect(page).not.toMatch(/<script|<link|<img|\bsrc=|@import|url\(|\bhref="(?:https?:)?\/\//)
})
