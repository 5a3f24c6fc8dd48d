import { createHash } from 'node:crypto'
import type OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { billingPeriodOf } from '#db/billing-period.ts'
import { formatUsd } from '#db/money.ts'
import { recordUsageEvents } from '#db/queries/usage.ts'
import { addBaseModel, createEvent } from '../../db/test/support/records.ts'
import { costOfEvent, createHistory, type History } from '../../db/test/support/usage-history.ts'
import type { TestTenant } from './support/pool-client.ts'
import { TestPool } from './support/test-pool.ts'

const PERIODS = ['2026-05', '2026-06']
let pool: TestPool
let tenant: TestTenant
let other: TestTenant
let history: History
/** A base model that has a price. */
let base: string
beforeAll(async () => {
  pool = await TestPool.start()
  tenant = await pool.addTenant()
  other = await pool.addTenant()
  const { db } = pool.database
  base = await addBaseModel(db)
  history = await createHistory(db, tenant.id, { periods: PERIODS, count: 120, seed: 3 })
  await recordUsageEvents(db, history.events)
})
afterAll(() => pool.stop())

interface Detail {
  readonly id: string
  readonly status: string
  readonly number: number | null
  readonly billed_usd: string
  readonly exact_pusd: string
  readonly lines: readonly { readonly billed_usd: string; readonly exact_pusd: string }[]
}

const pathOf = ({ name }: { name: string }, rest = '') => `/v1/tenants/${name}/invoices${rest}`

async function refusal(response: Response): Promise<{ status: number; code: string }> {
  const { error } = (await response.json()) as { error: { code: string } }
  return { status: response.status, code: error.code }
}

/** The field at fault. */
async function fault(response: Response): Promise<{ status: number; param: string | null }> {
  const { error } = (await response.json()) as { error: { param: string | null } }
  return { status: response.status, param: error.param }
}

describe('prices', () => {
  const price = { prompt_pusd: '7', cached_prompt_pusd: '3', completion_pusd: '11' }

  it('are versions that the operator adds to, newest first', async () => {
    const added = await pool.admin('POST', '/v1/prices', { base_model: base, ...price })
    expect(added).toEqual({
      id: expect.stringMatching(/^prc_/),
      base_model: base,
      version: 2,
      ...price,
      created_at: expect.stringMatching(/Z$/),
    })
    const { data } = await pool.admin<{ data: object[] }>('GET', `/v1/prices?base_model=${base}`)
    expect(data).toMatchObject([added, { version: 1, prompt_pusd: '100000' }])
  })

  it.each([
    [{ base_model: 'nobody' }, 404, 'base_model'],
    [{ prompt_pusd: '-1' }, 400, 'prompt_pusd'],
    [{ prompt_pusd: 7 }, 400, 'prompt_pusd'],
    [{ completion_pusd: '9223372036854775808' }, 400, 'completion_pusd'],
  ])('are refused when wrong: %j', async (change, status, param) => {
    const wish = { base_model: base, ...price, ...change }
    const response = await pool.call('POST', '/v1/prices', pool.operatorKey, wish)
    expect(await fault(response)).toEqual({ status, param })
  })

  it('are closed to tenants', async () => {
    for (const method of ['GET', 'POST']) {
      const body = method === 'POST' ? { base_model: base, ...price } : undefined
      expect((await pool.call(method, '/v1/prices', tenant.key, body)).status).toBe(403)
    }
  })
})

describe('invoices', () => {
  it('are drafts until the operator finalizes them, and bill what was used', async () => {
    const body = { period: '2026-05' }
    const made = await pool.call('POST', pathOf(tenant), pool.operatorKey, body)
    expect(made.status).toBe(201)
    const draft = (await made.json()) as Detail
    expect(draft).toMatchObject({
      status: 'draft',
      number: null,
      period_end: '2026-06-01T00:00:00Z',
    })
    const again = await pool.call('POST', pathOf(tenant), pool.operatorKey, body)
    expect([again.status, ((await again.json()) as Detail).id]).toEqual([200, draft.id])
    const path = pathOf(tenant, `/${draft.id}/finalize`)
    const final = await pool.admin<Detail>('POST', path)
    expect(final).toMatchObject({
      ...draft,
      status: 'final',
      number: 1,
      finalized_at: expect.any(String),
      as_of: expect.any(String),
    })
    expect(await pool.admin('POST', path)).toEqual(final)
    const may = history.events.filter((event) => event.ended_at.startsWith('2026-05'))
    const exact = may.reduce((sum, event) => sum + costOfEvent(event, history.prices), 0n)
    expect(final.exact_pusd).toBe(String(exact))
    const seen = await pool.call('GET', pathOf(tenant, '/2026-05'), tenant.key)
    expect(await seen.json()).toEqual(final)
    const list = await pool.call('GET', pathOf(tenant), tenant.key)
    expect(await list.json()).toMatchObject({
      data: [{ id: draft.id, billed_usd: final.billed_usd }],
    })
  })

  it.each(['csv', 'focus', 'json'])(
    'are exported as %s, with a manifest that fits',
    async (format) => {
      await pool.admin('POST', pathOf(tenant), { period: '2026-05' })
      const detail = await pool.admin<Detail>('GET', pathOf(tenant, '/2026-05'))
      const path = pathOf(tenant, `/2026-05/export?format=${format}`)
      const response = await pool.call('GET', path, tenant.key)
      const content = await response.text()
      const manifest = JSON.parse(response.headers.get('x-nozzle-manifest') ?? '')
      const invoice = content.slice(content.indexOf(',"invoice":') + 11, -2)
      const digested = format === 'json' ? invoice : content
      expect(manifest).toMatchObject({
        invoice_id: detail.id,
        period: '2026-05',
        rows: detail.lines.length,
        billed_total: detail.billed_usd,
        sha256: createHash('sha256').update(digested).digest('hex'),
      })
      if (format === 'json') {
        expect(JSON.parse(content)).toMatchObject({ manifest, invoice: { id: detail.id } })
      } else {
        expect(content.trimEnd().split('\r\n')).toHaveLength(1 + detail.lines.length)
      }
    },
  )

  it('are not due while their period lasts', async () => {
    const period = new Date().toISOString().slice(0, 7)
    await pool.admin('POST', pathOf(other), { period })
    const path = pathOf(other, `/${period}/finalize`)
    const asked = await pool.call('POST', path, pool.operatorKey, { ignore_grace: true })
    expect(await refusal(asked)).toEqual({ status: 422, code: 'invoice_not_due' })
  })

  it('are made and finalized by the operator alone, and read by their tenant alone', async () => {
    await pool.admin('POST', pathOf(tenant), { period: '2026-05' })
    const attempts = [
      ['POST', pathOf(tenant), tenant.key, 403],
      ['POST', pathOf(tenant, '/2026-05/finalize'), tenant.key, 403],
      ['GET', pathOf(tenant, '/2026-05'), other.key, 404],
      ['GET', pathOf(tenant, '/2026-05/export'), other.key, 404],
      ['GET', pathOf(tenant, '/inv_none'), tenant.key, 404],
    ] as const
    for (const [method, path, key, status] of attempts) {
      const body = method === 'POST' ? { period: '2026-06' } : undefined
      expect((await pool.call(method, path, key, body)).status).toBe(status)
    }
    for (const body of [{ period: '2026-13' }, {}, { period: 5 }]) {
      const response = await pool.call('POST', pathOf(tenant), pool.operatorKey, body)
      expect(await refusal(response)).toEqual({ status: 400, code: 'invalid_request' })
    }
  })

  it('are of months that have begun', async () => {
    const now = new Date()
    const next = billingPeriodOf(new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1)))
    const body = { period: next.name }
    const response = await pool.call('POST', pathOf(other), pool.operatorKey, body)
    expect(await refusal(response)).toEqual({ status: 422, code: 'invoice_not_due' })
    const made = await pool.call('GET', pathOf(other, `/${next.name}`), pool.operatorKey)
    expect(made.status).toBe(404)
  })
})

const secondsOf = (time: string) => Date.parse(time) / 1000

describe('organization usage and costs', () => {
  const MAY = {
    start_time: secondsOf('2026-05-01T00:00:00Z'),
    end_time: secondsOf('2026-06-01T00:00:00Z'),
  }
  type Result = OpenAI.Admin.Organization.UsageCompletionsResponse.Data['results'][number]
  type UsageResult = Extract<Result, { object: 'organization.usage.completions.result' }>
  const asUsage = (result: Result): UsageResult => {
    if (result.object === 'organization.usage.completions.result') return result
    throw new Error(`not usage: ${result.object}`)
  }
  /** The SDK sends an admin key where its documents say so. */
  const sdk = (key: string) => pool.sdk(key, '/v1', { adminAPIKey: key })
  const inMay = () => history.events.filter((event) => event.ended_at.startsWith('2026-05'))

  it('are read by the official SDK, page by page', async () => {
    const { usage } = sdk(tenant.key).admin.organization
    const results: UsageResult[] = []
    let page: string | undefined
    do {
      const reply = await usage.completions({
        ...{ ...MAY, group_by: ['model', 'api_key_id'], limit: 10 },
        ...(page !== undefined && { page }),
      })
      expect(reply.object).toBe('page')
      expect(reply.data.length).toBeLessThanOrEqual(11)
      for (const bucket of reply.data) {
        expect(bucket.end_time - bucket.start_time).toBe(86_400)
        results.push(...bucket.results.map(asUsage))
      }
      page = reply.next_page ?? undefined
      expect(reply.has_more).toBe(page !== undefined)
    } while (page !== undefined)
    const sum = (field: 'input_tokens' | 'output_tokens' | 'num_model_requests') =>
      results.reduce((total, result) => total + result[field], 0)
    const may = inMay()
    expect(sum('num_model_requests')).toBe(may.length)
    expect(sum('input_tokens')).toBe(may.reduce((total, event) => total + event.prompt_tokens, 0))
    expect(sum('output_tokens')).toBe(may.reduce((total, e) => total + e.completion_tokens, 0))
    const models = new Set(results.map(({ model }) => model))
    expect(models.has('support-bot')).toBe(true)
    expect(models.has('support-bot@2')).toBe(false)
  })

  it('cost what the ledger says, in all and by line item', async () => {
    const query = { ...MAY, limit: 31 }
    const costs = async (group_by?: ('line_item' | 'project_id')[]) => {
      const reply = await sdk(tenant.key).admin.organization.usage.costs({
        ...query,
        ...(group_by && { group_by }),
      })
      return reply.data
        .flatMap((bucket) => bucket.results)
        .map((result) => {
          if (result.object !== 'organization.costs.result') throw new Error(result.object)
          return result
        })
    }
    const exactOf = (results: Awaited<ReturnType<typeof costs>>) =>
      results.reduce((sum, { amount }) => sum + BigInt((amount as { x_pusd: string }).x_pusd), 0n)
    const exact = inMay().reduce((sum, event) => sum + costOfEvent(event, history.prices), 0n)
    const all = await costs()
    expect(exactOf(all)).toBe(exact)
    const value = all.reduce((sum, { amount }) => sum + (amount?.value ?? 0), 0)
    expect(value).toBeCloseTo(Number(formatUsd(exact)), 9)
    expect(all[0]).toMatchObject({ amount: { currency: 'usd' }, line_item: null, quantity: null })
    const items = await costs(['line_item', 'project_id'])
    expect(exactOf(items)).toBe(exact)
    const completions = items.filter((item) => item.line_item?.endsWith(', output_tokens'))
    expect(completions.reduce((sum, item) => sum + (item.quantity ?? 0), 0)).toBe(
      inMay().reduce((sum, event) => sum + event.completion_tokens, 0),
    )
    expect(
      items.every((item) => item.project_id === tenant.id && item.quantity_unit === 'tokens'),
    ).toBe(true)
  })

  it('cost what the named models did', async () => {
    const path = `/v1/organization/costs?start_time=${MAY.start_time}&end_time=${MAY.end_time}&limit=31`
    const costOf = async (models: string): Promise<bigint> => {
      const reply = await pool.call('GET', `${path}${models}`, tenant.key)
      type Page = { data: { results: { amount: { x_pusd: string } }[] }[] }
      const { data } = (await reply.json()) as Page
      const results = data.flatMap((bucket) => bucket.results)
      return results.reduce((sum, { amount }) => sum + BigInt(amount.x_pusd), 0n)
    }
    const ofBot = inMay().filter(({ model }) => model.split('@')[0] === 'support-bot')
    const exact = ofBot.reduce((sum, event) => sum + costOfEvent(event, history.prices), 0n)
    expect(exact).toBeGreaterThan(0n)
    expect(exact).toBeLessThan(await costOf(''))
    expect(await costOf('&models[]=support-bot')).toBe(exact)
    expect(await costOf('&models=nobody')).toBe(0n)
  })

  it('are cut to minutes where asked', async () => {
    const base_model = await addBaseModel(pool.database.db)
    const events = ['10:00:59', '10:01:00', '10:02:59', '10:03:00'].map((at) =>
      createEvent(other.id, { base_model, ended_at: `2026-06-09T${at}.000Z` }),
    )
    await recordUsageEvents(pool.database.db, events)
    const reply = await sdk(other.key).admin.organization.usage.completions({
      start_time: secondsOf('2026-06-09T10:01:00Z'),
      end_time: secondsOf('2026-06-09T10:03:00Z'),
      bucket_width: '1m',
    })
    expect(reply.data.map(({ results }) => results)).toMatchObject([
      [{ num_model_requests: 1, input_tokens: 100, input_cached_tokens: 40 }],
      [{ num_model_requests: 1, output_tokens: 25 }],
    ])
  })

  it('show the operator every tenant, or those it names', async () => {
    const ask = async (project_ids?: string[]) => {
      const reply = await sdk(pool.operatorKey).admin.organization.usage.completions({
        ...{ ...MAY, end_time: secondsOf('2026-07-01T00:00:00Z'), group_by: ['project_id'] },
        ...{ limit: 31, page: `page_${secondsOf('2026-05-31T00:00:00Z')}` },
        ...(project_ids && { project_ids }),
      })
      const results = reply.data.flatMap((bucket) => bucket.results)
      return new Set(results.map((result) => asUsage(result).project_id))
    }
    expect(await ask()).toEqual(new Set([tenant.id, other.id]))
    expect(await ask([other.name])).toEqual(new Set([other.id]))
  })

  it.each([
    ['usage/completions', {}, 400, 'start_time'],
    ['usage/completions', { start_time: 'today' }, 400, 'start_time'],
    ['usage/completions', { start_time: '20', end_time: '10' }, 400, 'start_time'],
    ['usage/completions', { start_time: '1', limit: '32' }, 400, 'limit'],
    ['usage/completions', { start_time: '1', 'group_by[]': 'user_id' }, 400, 'group_by'],
    ['usage/completions', { start_time: '1', user_ids: 'u' }, 400, 'user_ids'],
    ['usage/completions', { start_time: '1', page: 'x' }, 400, 'page'],
    ['usage/completions', { start_time: '1', project_ids: 'nobody' }, 404, 'project_ids'],
    ['costs', { start_time: '1', bucket_width: '1h' }, 400, 'bucket_width'],
    ['costs', { start_time: '1', line_items: 'a, b' }, 400, 'line_items'],
    ['costs', { start_time: '1', model: 'a' }, 400, 'model'],
    ['costs', { start_time: '1', 'limit[]': '3' }, 400, 'limit'],
    ['usage/completions', { start_time: '1', line_items: 'a' }, 400, 'line_items'],
  ])('refuse %s with %j by name', async (path, query, status, param) => {
    const search = new URLSearchParams(query)
    const response = await pool.call('GET', `/v1/organization/${path}?${search}`, tenant.key)
    expect(await fault(response)).toEqual({ status, param })
  })

  it("never show a tenant another's usage", async () => {
    const path = `/v1/organization/costs?start_time=${MAY.start_time}&limit=31`
    const reply = await (await pool.call('GET', path, other.key)).json()
    const { data } = reply as { data: { results: object[] }[] }
    expect(data.flatMap(({ results }) => results)).toEqual([])
    const asked = await pool.call('GET', `${path}&project_ids=${tenant.id}`, other.key)
    expect(await refusal(asked)).toEqual({ status: 404, code: 'not_found' })
  })
})

describe('a period', () => {
  const messageOf = async (path: string): Promise<string> => {
    const reply = await pool.call('GET', path, pool.operatorKey)
    const { error } = (await reply.json()) as { error: { message: string } }
    return error.message
  }

  it('is named in the same forms wherever one is asked for', async () => {
    const forms = ['2026-05-01', '2026-05-01T00:00:00Z', String(secondsOf('2026-05-01T00:00:00Z'))]
    for (const path of [`/v1/tenants/${tenant.name}/usage`, '/v1/pool/books/totals']) {
      const replies = await Promise.all(
        forms.map(async (start) => {
          const url = `${path}?start=${start}&end=2026-06-01`
          return (await pool.call('GET', url, pool.operatorKey)).text()
        }),
      )
      expect(replies[0]).toContain('"prompt_tokens"')
      expect(new Set(replies).size).toBe(1)
    }
  })

  it('that has not begun is said to lie in the future', async () => {
    const path = `/v1/tenants/${tenant.name}/usage?start=2999-01-01`
    expect(await messageOf(path)).toBe('start lies in the future')
    expect(await messageOf(`${path}&end=2998-01-01`)).toBe('start must be before end')
  })
})
