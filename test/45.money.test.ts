/**
 * Money as an operator and a tenant meet it, on a running pool, through the CLI and the official
 * SDK: limits that say when to retry and when not, an Idempotency-Key that is billed once, a bill
 * that every report and export agrees on, and books that reconcile after the host was killed.
 */
import { join } from 'node:path'
import OpenAI from 'openai'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { z } from 'zod'
import { costOf } from '../db/money.ts'
import { DEFAULT_PRICES } from '../db/queries/prices.ts'
import { EXIT_CODES } from '../scripts/lib/cli-error.ts'
import { createdKey, invoiceDetail, usageReport } from '../scripts/lib/edge-replies.ts'
import { readLedger, untilSettled } from './support/books.ts'
import { requireStream } from './support/inference.ts'
import { describeOnPools, ON_NODE_UNLESS_CHOSEN } from './support/on-edges.ts'
import { type Pool, startPool, untilHostReady } from './support/pool.ts'
import { createPoolHome, type PoolHome } from './support/pool-home.ts'
import { adapterDirectory } from './support/tasks.ts'

const MODEL = 'sql'
const BREAKS = 4
const organizationPage = z.object({
  object: z.literal('page'),
  data: z.array(
    z.object({
      object: z.literal('bucket'),
      results: z.array(
        z.object({
          input_tokens: z.int(),
          output_tokens: z.int(),
          input_cached_tokens: z.int(),
          num_model_requests: z.int(),
        }),
      ),
    }),
  ),
  has_more: z.boolean(),
})

describeOnPools('money', ON_NODE_UNLESS_CHOSEN, (edge) => {
  let home: PoolHome
  let pool: Pool
  let apiKey = ''
  /** HTTP requests that the SDK made of its own accord and ours. */
  let sent = 0

  beforeAll(async () => {
    home = await createPoolHome(edge)
    pool = await startPool(home)
    await run('tenant', 'create', 'acme')
    apiKey = createdKey.parse(await run('key', 'create', '--tenant', 'acme')).key
    await run('deploy', adapterDirectory('text-to-sql'), '--model', MODEL, '--tenant', 'acme')
  })
  afterAll(async () => {
    await pool?.stop()
    await home?.remove()
  })

  /** A command that must work; its JSON. */
  async function run(...args: string[]): Promise<unknown> {
    const { exitCode, stdout, stderr } = await pool.nozzle(...args, '--json')
    expect(exitCode, stderr).toBe(0)
    return JSON.parse(stdout)
  }

  function sdk(maxRetries = 0): OpenAI {
    return new OpenAI({
      apiKey,
      baseURL: `${pool.edgeUrl}/acme/${MODEL}/v1`,
      maxRetries,
      fetch: (url, init) => {
        sent += 1
        return fetch(url, init)
      },
    })
  }

  const body = {
    model: MODEL,
    messages: [{ role: 'user' as const, content: 'Write the SQL query: all paid orders' }],
    max_tokens: 12,
  }

  it('bills a request that is sent twice under one Idempotency-Key once', async () => {
    const headers = { 'Idempotency-Key': 'order-17' }
    const first = await sdk().chat.completions.create(body, { headers })
    const again = await sdk().chat.completions.create(body, { headers })
    expect(again).toEqual(first)
    const other = sdk().chat.completions.create({ ...body, max_tokens: 11 }, { headers })
    await expect(other).rejects.toMatchObject({ status: 422, code: 'idempotency_key_reused' })
    await untilSettled(pool)
    expect(await readLedger(pool, ['acme'])).toHaveLength(1)
  })

  it('says when to retry at a rate limit, and not to at a spent budget', async () => {
    await run('limit', 'set', '--tenant', 'acme', '--rpm', '1')
    const limited = await sdk().chat.completions.create(body).asResponse()
    expect(limited.headers.get('x-ratelimit-limit-requests')).toBe('1')
    expect(limited.headers.get('x-ratelimit-remaining-requests')).toBe('0')
    await limited.text()
    await expect(sdk().chat.completions.create(body)).rejects.toMatchObject({
      status: 429,
      code: 'rate_limit_exceeded',
    })
    await run('limit', 'set', '--tenant', 'acme', '--rpm', 'none', '--monthly-usd', '0')
    sent = 0
    await expect(sdk(3).chat.completions.create(body)).rejects.toMatchObject({
      status: 429,
      code: 'insufficient_quota',
    })
    expect(sent).toBe(1)
    await run('limit', 'rm', '--tenant', 'acme')
    await sdk().chat.completions.create(body)
  })

  it('reconciles to the pico-dollar after the host was killed under open streams', async () => {
    const { epoch } = await pool.host()
    const { host } = pool.children()
    const question = { baseUrl: `${pool.edgeUrl}/acme/${MODEL}/v1`, apiKey }
    const streams = await Promise.all(
      Array.from({ length: BREAKS }, () =>
        requireStream({
          ...question,
          body: { ...body, max_tokens: 400, ignore_eos: true, logprobs: true },
        }),
      ),
    )
    await Promise.all(streams.map((stream) => stream.tokens(2)))
    process.kill(host, 'SIGKILL')
    await Promise.all(streams.map((stream) => stream.reply))
    await untilHostReady(pool, epoch + 1)
    await untilSettled(pool)
    const journal = join(home.directory, 'host', 'journal')
    expect(await run('reconcile', '--journal', journal)).toMatchObject({
      agree: true,
      differences: [],
    })
  })

  it('shows the same sums in usage, invoice, exports and the API of organizations', async () => {
    await untilSettled(pool)
    const rows = await readLedger(pool, ['acme'])
    const exact = rows.reduce((sum, row) => sum + costOf(row, DEFAULT_PRICES), 0n)
    const usage = usageReport.parse(await run('usage', '--tenant', 'acme'))
    expect(usage.totals).toMatchObject({ requests: rows.length, cost_pusd: String(exact) })
    const month = new Date().toISOString().slice(0, 7)
    const invoice = invoiceDetail.parse(await run('invoice', 'create', month, '--tenant', 'acme'))
    expect(invoice).toMatchObject({
      status: 'draft',
      requests: String(rows.length),
      exact_pusd: String(exact),
      notes: { recovered_requests: String(BREAKS) },
    })
    const { exitCode } = await pool.nozzle('invoice', 'finalize', month, '--tenant', 'acme')
    expect(exitCode).toBe(EXIT_CODES.refused)
    const focus = await pool.nozzle(
      ...['invoice', 'export', month, '--tenant', 'acme', '--format', 'focus'],
    )
    expect(focus.exitCode, focus.stderr).toBe(0)
    expect(focus.stdout.split('\n')[0]).toContain('BilledCost')
    expect(focus.stdout.trim().split('\n')).toHaveLength(1 + invoice.lines.length)

    const start = Math.floor(Date.parse(`${month}-01T00:00:00Z`) / 1000)
    const page = await fetch(
      `${pool.edgeUrl}/v1/organization/usage/completions?start_time=${start}&bucket_width=1d&limit=31`,
      { headers: { authorization: `Bearer ${apiKey}` } },
    )
    expect(page.status).toBe(200)
    const results = organizationPage.parse(await page.json()).data.flatMap((one) => one.results)
    const total = (field: 'input_tokens' | 'output_tokens' | 'num_model_requests') =>
      results.reduce((sum, result) => sum + result[field], 0)
    expect(total('num_model_requests')).toBe(rows.length)
    expect(total('input_tokens')).toBe(rows.reduce((sum, row) => sum + row.promptTokens, 0))
    expect(total('output_tokens')).toBe(rows.reduce((sum, row) => sum + row.completionTokens, 0))
  })

  it('states what the pool saves, with what that assumes', async () => {
    const report = z
      .looseObject({
        assumptions: z.looseObject({}),
        data: z.array(z.looseObject({ model: z.string() })),
      })
      .parse(await run('savings', '--tenant', 'acme'))
    expect(report.data.map(({ model }) => model)).toContain(MODEL)
  })
})
