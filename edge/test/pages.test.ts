/**
 * The pages in a real Chromium, before a real host: every page in light and in dark, with and
 * without scripts, and each thing that can be done there, checked at the API.
 */
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openBrowser, seriousFindings, watchErrors } from './support/browser.ts'
import type { TestTenant } from './support/pool-client.ts'
import { expectedReply, TestPool, until } from './support/test-pool.ts'

const MODEL = 'support'
let pool: TestPool
let browser: Browser
let tenant: TestTenant
let invoiceId = ''

beforeAll(async () => {
  pool = await TestPool.start()
  await pool.addHost()
  tenant = await pool.addTenant()
  await pool.admin('POST', '/v1/prices', {
    base_model: 'fake-base',
    prompt_pusd: '100000',
    cached_prompt_pusd: '50000',
    completion_pusd: '400000',
  })
  await pool.deploy(tenant, MODEL, 'first')
  await pool.deploy(tenant, MODEL, 'second')
  await say(tenant.key)
  await until(async () => expect(await eventsOf()).toHaveLength(1))
  const invoice = await pool.admin<{ id: string }>('POST', `${api()}/invoices`, { period: month() })
  invoiceId = invoice.id
  browser = await openBrowser()
}, 60_000)

afterAll(async () => {
  await browser?.close()
  await pool?.stop()
})

const api = (): string => `/v1/tenants/${tenant.name}`
const ui = (path: string): string => `${pool.url}/ui/t/${tenant.name}/${path}`
const month = (): string => new Date().toISOString().slice(0, 7)

function say(key: string): Promise<unknown> {
  return pool.sdk(key, `/${tenant.name}/${MODEL}/v1`).chat.completions.create({
    model: MODEL,
    messages: [{ role: 'user', content: 'hello' }],
    max_tokens: 4,
  })
}

async function eventsOf(): Promise<{ key_id: string; model: string }[]> {
  const { data } = await pool.admin<{ data: { key_id: string; model: string }[] }>(
    'GET',
    `${api()}/usage/events`,
  )
  return data
}

/** A browser of its own, signed in. */
async function signedIn(
  key: string,
  options: Parameters<Browser['newContext']>[0] = {},
): Promise<{ page: Page; context: BrowserContext }> {
  const context = await browser.newContext({ locale: 'en-US', ...options })
  const page = await context.newPage()
  await page.goto(`${pool.url}/`)
  await page.fill('#key', key)
  await page.click('main button')
  await page.waitForURL((url) => !url.pathname.endsWith('/sign-in'))
  return { page, context }
}

describe('sign-in', () => {
  it('says why a key is refused, and lets a good one in to where it was going', async () => {
    const context = await browser.newContext()
    const page = await context.newPage()
    await page.goto(ui('keys'))
    expect(new URL(page.url()).pathname).toBe('/ui/sign-in')
    await page.fill('#key', `${tenant.key}x`)
    await page.click('main button')
    expect(await page.textContent('[role=alert]')).toContain('Incorrect API key')
    await page.fill('#key', tenant.key)
    await page.click('main button')
    expect(page.url()).toBe(ui('keys'))
    const [cookie, ...others] = await context.cookies(`${pool.url}/ui`)
    expect(others).toEqual([])
    expect(cookie).toMatchObject({ httpOnly: true, sameSite: 'Lax', path: '/ui', secure: false })
    expect(atob(cookie?.value.split('.')[1] ?? '')).not.toContain(tenant.key.slice(-38))
    expect(await context.cookies(pool.url)).toEqual([])
    await page.click('text=Sign out')
    expect(await page.textContent('[role=status]')).toBe('You are signed out.')
    await page.goto(ui('keys'))
    expect(new URL(page.url()).pathname).toBe('/ui/sign-in')
    await context.close()
  })

  it('sends nobody to another site afterwards', async () => {
    const context = await browser.newContext()
    const page = await context.newPage()
    await page.goto(`${pool.url}/ui/sign-in?next=${encodeURIComponent('//example.com/ui')}`)
    await page.fill('#key', tenant.key)
    await page.click('main button')
    expect(page.url()).toBe(ui('models'))
    await context.close()
  })

  it('ends with its key', async () => {
    const made = await pool.admin<{ id: string; key: string }>('POST', `${api()}/keys`, {})
    const { page, context } = await signedIn(made.key)
    await pool.admin('DELETE', `${api()}/keys/${made.id}`)
    await page.goto(ui('models'))
    expect(new URL(page.url()).pathname).toBe('/ui/sign-in')
    expect(await context.cookies(`${pool.url}/ui`)).toEqual([])
    await context.close()
  })

  it('opens no API to other sites: no form, no cookie, no CORS', async () => {
    const { context } = await signedIn(tenant.key)
    const [{ name, value } = { name: '', value: '' }] = await context.cookies(`${pool.url}/ui`)
    await context.close()
    const cookie = `${name}=${value}`
    const post = (headers: Record<string, string>, body = 'name=evil&scope=deploy') =>
      fetch(ui('keys'), { method: 'POST', headers: { cookie, ...headers }, body })
    const form = { 'content-type': 'application/x-www-form-urlencoded' }
    const foreign = { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' }
    expect((await post({ ...form, ...foreign })).status).toBe(403)
    expect((await post(form)).status).toBe(403)
    expect((await post({ 'content-type': 'text/plain', ...foreign })).status).toBe(403)
    expect((await post({ ...form, origin: pool.url })).status).toBe(200)
    const headers = { cookie, ...foreign, 'access-control-request-method': 'POST' }
    const asked = await fetch(ui('keys'), { method: 'OPTIONS', headers })
    expect(asked.headers.get('access-control-allow-origin')).toBeNull()
    expect((await fetch(`${pool.url}${api()}/keys`, { headers: { cookie } })).status).toBe(401)
  })
})

describe.each(['light', 'dark'] as const)('every page in %s', (colorScheme) => {
  it('of a tenant shows what is there, without a serious finding of axe', async () => {
    const { page, context } = await signedIn(tenant.key, { colorScheme })
    const errors = watchErrors(page)
    await expectPage(page, 'models', `/${tenant.name}/${MODEL}/v1`)
    await expectPage(page, `models/${MODEL}`, 'from openai import OpenAI')
    await expectPage(page, 'usage', 'Usage per model')
    expect(await page.locator('.charts canvas').count()).toBe(3)
    await expectPage(page, 'invoices', month())
    await expectPage(page, `invoices/${invoiceId}`, 'Price of a million')
    await expectPage(page, 'keys', `nz_${tenant.keyId.slice('key_'.length)}`)
    await expectPage(page, 'playground', 'Compare with version')
    expect(errors).toEqual([])
    await expectPage(page, 'models/none', 'not_found', 404)
    await context.close()
  })

  it('of the operator, too', async () => {
    const { page, context } = await signedIn(pool.operatorKey, { colorScheme })
    const errors = watchErrors(page)
    expect(page.url()).toBe(`${pool.url}/ui/pool`)
    const hostId = pool.deps.pool.known()[0]?.host_id ?? ''
    await expectPage(page, `${pool.url}/ui/pool`, hostId)
    await expectPage(page, `${pool.url}/ui/residency`, `${tenant.name}/${MODEL}@2`)
    await expectPage(page, `${pool.url}/ui/latency`, 'Time to first token: requests by time')
    await expectPage(page, `${pool.url}/ui/savings`, `${tenant.name}/${MODEL}`)
    await expectPage(page, `${pool.url}/ui/tenants`, tenant.name)
    await expectPage(page, 'models', MODEL)
    await page.goto(`${pool.url}/ui/sign-in`)
    expect(await seriousFindings(page)).toEqual([])
    expect(errors).toEqual([])
    await context.close()
  })

  async function expectPage(page: Page, path: string, text: string, status = 200): Promise<void> {
    const reply = await page.goto(path.startsWith('http') ? path : ui(path))
    expect(reply?.status(), path).toBe(status)
    expect(await page.textContent('main'), path).toContain(text)
    expect(reply?.headers(), path).toMatchObject({
      'cache-control': 'no-store',
      'content-security-policy': expect.stringContaining("default-src 'none'; script-src 'self'"),
    })
    expect(await seriousFindings(page), path).toEqual([])
  }
})

describe('without scripts', () => {
  it('shows models, usage and keys, and changes a canary', async () => {
    const { page, context } = await signedIn(tenant.key, { javaScriptEnabled: false })
    await page.goto(ui('usage'))
    expect(await page.textContent('#per-day')).toContain(new Date().toISOString().slice(0, 10))
    expect(await page.locator('canvas').count()).toBe(0)
    await page.goto(ui(`models/${MODEL}`))
    await page.click('text=Start the canary')
    expect(await page.textContent('[role=status]')).toBe('The canary has its share.')
    expect(await laneOf()).toEqual({ version: 2, canary: { version: 1, weight: 10 } })
    await page.click('text=End the canary')
    expect(await laneOf()).toEqual({ version: 2, canary: null })
    await context.close()
  })
})

async function laneOf(): Promise<unknown> {
  const model = await pool.admin<{
    version: number
    canary: { version: number; weight: number } | null
  }>('GET', `${api()}/models/${MODEL}`)
  const { version, canary } = model
  return { version, canary: canary && { version: canary.version, weight: canary.weight } }
}

describe('a model', () => {
  it('gets a canary by the slider, which is promoted, and is rolled back', async () => {
    const { page, context } = await signedIn(tenant.key)
    await page.goto(ui(`models/${MODEL}`))
    await page.locator('#canary-weight').fill('35')
    expect(await page.textContent('output')).toBe('35%')
    await page.click('text=Start the canary')
    expect(await page.textContent('.facts')).toContain('canary v1 · 35%')
    expect(await laneOf()).toEqual({ version: 2, canary: { version: 1, weight: 35 } })
    await page.click('text=Promote v1')
    expect(await laneOf()).toEqual({ version: 1, canary: null })
    await page.selectOption('#rollback-to', '2')
    await page.click('main button:text("Roll back")')
    expect(await laneOf()).toEqual({ version: 2, canary: null })
    await context.close()
  })

  it('has snippets that a button copies', async () => {
    const { page, context } = await signedIn(tenant.key)
    await context.grantPermissions(['clipboard-read', 'clipboard-write'])
    await page.goto(ui(`models/${MODEL}`))
    await page.click('[aria-label="Copy Base URL"]')
    await until(async () =>
      expect(await page.evaluate<string>('navigator.clipboard.readText()')).toBe(
        `${pool.url}/${tenant.name}/${MODEL}/v1`,
      ),
    )
    await context.close()
  })
})

describe('a key', () => {
  it('is made, shown once, works, and is revoked', async () => {
    const { page, context } = await signedIn(tenant.key)
    await page.goto(ui('keys'))
    await page.fill('#key-name', '<b>ci</b>')
    await page.uncheck('input[value=deploy]')
    await page.click('text=Make the key')
    const key = (await page.textContent('pre')) ?? ''
    await say(key)
    expect((await pool.call('GET', `${api()}/models`, key)).status).toBe(403)
    await page.click('text=Back to the keys')
    expect(await page.textContent('main')).not.toContain(key)
    const row = page.locator('tr', { hasText: '<b>ci</b>' })
    await row.locator('summary').click()
    await row.locator('text=Revoke for good').click()
    expect(await page.textContent('[role=status]')).toContain('The key is revoked.')
    expect(await row.textContent()).toContain('revoked')
    await expect(say(key)).rejects.toMatchObject({ status: 401 })
    await context.close()
  })

  it('that may only generate has the playground alone', async () => {
    const made = await pool.admin<{ key: string }>('POST', `${api()}/keys`, {
      scopes: ['generate'],
    })
    const { page, context } = await signedIn(made.key)
    expect(page.url()).toBe(ui('playground'))
    expect(await page.locator('header nav li').count()).toBe(1)
    expect(await page.textContent('#model')).toContain(MODEL)
    expect((await page.goto(ui('models')))?.status()).toBe(403)
    await context.close()
  })

  it('of another tenant sees none of this', async () => {
    const stranger = await pool.addTenant()
    const { page, context } = await signedIn(stranger.key)
    for (const path of ['models', `models/${MODEL}`, 'usage', 'invoices', 'keys']) {
      expect((await page.goto(ui(path)))?.status(), path).toBe(404)
    }
    for (const path of ['pool', 'residency', 'latency', 'savings', 'tenants']) {
      expect((await page.goto(`${pool.url}/ui/${path}`))?.status(), path).toBe(403)
    }
    await context.close()
  })
})

describe('the playground', () => {
  it('streams two versions side by side, billed as any request of the key', async () => {
    const { page, context } = await signedIn(tenant.key)
    const before = (await eventsOf()).length
    await page.goto(ui('playground'))
    await page.fill('#compare', '1')
    await page.fill('#max_tokens', '12')
    await page.fill('#temperature', '0')
    await page.fill('#prompt', 'hello')
    await page.click('text=Send')
    const answers = page.locator('.answers .text')
    await until(async () =>
      expect(await answers.allTextContents()).toEqual([
        expectedReply('second', 'hello', 12),
        expectedReply('first', 'hello', 12),
      ]),
    )
    await page.waitForSelector('.answers [aria-busy=true]', { state: 'detached' })
    expect(await page.textContent('.answers .help')).toMatch(/^\d+ tokens in, 12 out\./)
    expect(await seriousFindings(page)).toEqual([])
    await until(async () => expect(await eventsOf()).toHaveLength(before + 2))
    for (const event of (await eventsOf()).slice(0, 2)) expect(event.key_id).toBe(tenant.keyId)
    await context.close()
  })

  it('says what the model refuses', async () => {
    const { page, context } = await signedIn(tenant.key)
    await page.goto(ui('playground'))
    await page.fill('#version', '9')
    await page.fill('#prompt', 'hello')
    await page.click('text=Send')
    await page.waitForSelector('.answers .fault')
    expect(await page.textContent('.answers .fault')).toContain('9')
    await context.close()
  })
})
