/**
 * Usage is counted once and exactly: journal, ledger and clients agree to the token and the bill to
 * the pico-dollar, whatever clients do and when the host is killed under them.
 */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { costOf } from '../db/money.ts'
import { DEFAULT_PRICES } from '../db/queries/prices.ts'
import { callEdge } from '../scripts/lib/api-client.ts'
import { createdKey, tenantReply } from '../scripts/lib/edge-replies.ts'
import {
  readJournal,
  readLedger,
  readUsageReport,
  type UsageRow,
  untilSettled,
} from './support/books.ts'
import { ask, requireStream } from './support/inference.ts'
import { readMetrics } from './support/metrics.ts'
import { describeOnPools, itUnlessInWorkerd, ON_NODE_UNLESS_CHOSEN } from './support/on-edges.ts'
import { type Pool, startPool, untilHostReady } from './support/pool.ts'
import { createPoolHome, type PoolHome } from './support/pool-home.ts'
import { adapterDirectory, EXAMPLE_TASKS } from './support/tasks.ts'
import {
  chatOf,
  type Outcome,
  type Plan,
  questionOf,
  REQUEST_KINDS,
  runPlan,
  type Target,
} from './support/traffic.ts'
import { until } from './support/until.ts'

const TENANTS = ['demo', 'acme'] as const
const REQUESTS = 210
const CONCURRENCY = 12
const BROKEN_STREAMS = 8

describeOnPools('usage', ON_NODE_UNLESS_CHOSEN, (edge) => {
  let home: PoolHome
  let pool: Pool
  let targets: Target[] = []
  /** Of all tests so far. */
  const outcomes: Outcome[] = []
  /** Clients that left before a reply told them their request's id. */
  let leftUnnamed = 0

  beforeAll(async () => {
    home = await createPoolHome(edge)
    // What is counted here must be let in, however slow the machine.
    pool = await startPool({ env: { ...home.env, NOZZLE_QUEUE_WAIT_TARGET_MS: '60000' } })
    const apiKey = await createTenant(pool, 'acme')
    const { exitCode, stderr } = await pool.nozzle(
      ...['deploy', adapterDirectory('text-to-sql'), '--model', 'sql', '--tenant', 'acme'],
    )
    expect(exitCode, stderr).toBe(0)
    const base = pool.ready.base_model
    const demo = { tenant: 'demo', apiKey: pool.demoKey }
    const acme = { tenant: 'acme', apiKey }
    targets = [
      ...EXAMPLE_TASKS.map((model) => ({ ...demo, model, wireModel: `demo/${model}` })),
      { ...demo, model: base, wireModel: base },
      { ...acme, model: 'sql', wireModel: 'sql' },
      { ...acme, model: base, wireModel: base },
    ]
  })
  afterAll(async () => {
    await pool?.stop()
    await home?.remove()
  })

  function plan(count: number): Plan[] {
    return Array.from({ length: count }, (_, index) => ({
      index,
      kind: REQUEST_KINDS[index % REQUEST_KINDS.length] ?? 'whole',
      target: targetOf(Math.floor(index / REQUEST_KINDS.length)),
    }))
  }
  const targetOf = (index: number): Target =>
    targets[index % targets.length] ?? expect.fail('no target')

  /** Everything that must hold of the three books at any quiet moment. */
  async function expectBooksToAgree(): Promise<Map<string, UsageRow>> {
    await untilSettled(pool)
    const journal = await readJournal(pool)
    const ledger = await readLedger(pool, TENANTS)
    const billed = new Map(journal.map((row) => [row.requestId, row]))
    expect(billed.size).toBe(journal.length)
    expect(byId(ledger.map(({ costPusd: _, ...row }) => row))).toEqual(byId(journal))
    for (const row of ledger) expect(row.costPusd).toBe(costOf(row, DEFAULT_PRICES))
    await expectReportsToAdd(journal)

    const finished = outcomes.filter(({ usage }) => usage !== null)
    expect(byId(finished.map(toSeenRow))).toEqual(
      byId(finished.map(({ requestId }) => toSeenRowOf(billed.get(requestId), requestId))),
    )
    // Whatever else is billed belongs to a client that left, or whose host died.
    const unfinished = outcomes.filter(({ usage }) => usage === null)
    const named = new Map(unfinished.map((outcome) => [outcome.requestId, outcome]))
    const finishedIds = new Set(finished.map(({ requestId }) => requestId))
    const others = journal.filter(({ requestId }) => !finishedIds.has(requestId))
    const unnamed = others.filter(({ requestId }) => !named.has(requestId))
    expect(unnamed.length).toBeLessThanOrEqual(leftUnnamed)
    for (const { requestId, completionTokens } of others) {
      const outcome = named.get(requestId)
      expect(outcome?.kind).not.toBe('refused')
      expect(completionTokens).toBeGreaterThanOrEqual(outcome?.tokensSeen ?? 0)
    }
    return billed
  }

  /** The usage report of each tenant is the journal's sum, per model and in total. */
  async function expectReportsToAdd(journal: readonly UsageRow[]): Promise<void> {
    for (const tenant of TENANTS) {
      const report = await readUsageReport(pool, tenant)
      const rows = journal.filter((row) => row.tenant === tenant)
      const models = [...new Set(rows.map(({ model }) => model))].sort()
      expect(report.data.map(({ model }) => model)).toEqual(models)
      for (const { model, ...counts } of report.data) {
        expect(counts).toMatchObject(sumOf(rows.filter((row) => row.model === model)))
      }
      expect(report.totals).toMatchObject(sumOf(rows))
    }
  }

  it(`of ${REQUESTS} mixed requests is the same in journal, ledger and replies`, async () => {
    outcomes.push(...(await runPlan(pool, plan(REQUESTS), CONCURRENCY)))
    const billed = await expectBooksToAgree()
    const of = (kind: Outcome['kind']) => outcomes.filter((outcome) => outcome.kind === kind)
    for (const kind of ['whole', 'text', 'streamed'] as const) {
      expect(of(kind).filter(({ usage }) => usage === null)).toEqual([])
    }
    expect(of('refused').every(({ status }) => status >= 400 && status < 500)).toBe(true)
    expect(new Set(of('refused').map(({ code }) => code)).size).toBeGreaterThanOrEqual(4)
    for (const { requestId } of of('left')) {
      expect(billed.get(requestId)?.finish).toBe('abort')
    }
  })

  const leave = {
    title: 'of clients that leave before any reply is in both books too',
    reason: 'workerd alone notices a client that left once its reply has begun',
  }
  itUnlessInWorkerd(edge, leave, async () => {
    const leaving = new AbortController()
    const body = chatOf(0, 400, { ignore_eos: true })
    const asked = targets.map((target) =>
      ask({ ...questionOf(pool, target, body), signal: leaving.signal }).then(
        () => expect.fail('nobody waited for this reply'),
        () => null,
      ),
    )
    const host = await pool.host()
    const tokensBefore = (await readMetrics(host)).value('nozzle_tokens_total')
    await until('all of them to run', async () => {
      const metrics = await readMetrics(host)
      const isRunning = metrics.value('nozzle_sequences_running') === targets.length
      return isRunning && metrics.value('nozzle_tokens_total') > tokensBefore ? true : null
    })
    leaving.abort()
    await Promise.all(asked)
    leftUnnamed += targets.length
    const billed = await expectBooksToAgree()
    const aborted = [...billed.values()].filter(({ finish }) => finish === 'abort')
    // One whose first row was still to come owes nothing.
    expect(aborted.length).toBeGreaterThan(outcomes.filter(({ kind }) => kind === 'left').length)
  })

  it('survives the death of the host with streams open', async () => {
    const { epoch } = await pool.host()
    const { host: hostPid } = pool.children()
    const body = chatOf(1, 400, { ignore_eos: true, logprobs: true })
    const streams = await Promise.all(
      Array.from({ length: BROKEN_STREAMS }, async (_, index) => {
        const target = targetOf(index)
        return { target, stream: await requireStream(questionOf(pool, target, body)) }
      }),
    )
    await Promise.all(streams.map(({ stream }) => stream.tokens(2)))
    process.kill(hostPid, 'SIGKILL')
    const broken = await Promise.all(
      streams.map(async ({ target, stream }): Promise<Outcome> => {
        const reply = await stream.reply
        expect(reply.usage).toBeNull()
        const { requestId, status } = reply
        const code = reply.error?.code ?? null
        const tokensSeen = reply.logprobs.length
        return { ...target, kind: 'streamed', requestId, status, code, usage: null, tokensSeen }
      }),
    )
    expect(new Set(broken.map(({ code }) => code))).toEqual(new Set(['host_failed']))
    outcomes.push(...broken)

    await untilHostReady(pool, epoch + 1)
    expect(pool.children().host).not.toBe(hostPid)
    outcomes.push(...(await runPlan(pool, plan(30), CONCURRENCY)))
    const billed = await expectBooksToAgree()
    for (const { requestId, tokensSeen } of broken) {
      const row = billed.get(requestId)
      expect(row).toMatchObject({ source: 'recovered' })
      expect(row?.promptTokens).toBeGreaterThan(0)
      expect(tokensSeen).toBeGreaterThanOrEqual(2)
    }
  })
})

async function createTenant({ operator }: Pool, name: string): Promise<string> {
  const tenant = { method: 'POST', path: '/v1/tenants', json: { name } } as const
  await callEdge(operator, tenant, tenantReply)
  const key = { method: 'POST', path: `/v1/tenants/${name}/keys`, json: {} } as const
  return (await callEdge(operator, key, createdKey)).key
}

function byId<T extends { readonly requestId: string }>(rows: readonly T[]): T[] {
  return rows.toSorted((a, b) => (a.requestId < b.requestId ? -1 : 1))
}

/** What a client was told, and what it was billed, in one shape. */
function toSeenRow({ tenant, model, requestId, usage }: Outcome) {
  return {
    ...{ tenant, model, requestId },
    promptTokens: usage?.prompt_tokens,
    cachedPromptTokens: usage?.prompt_tokens_details.cached_tokens,
    completionTokens: usage?.completion_tokens,
  }
}

function toSeenRowOf(row: UsageRow | undefined, requestId: string) {
  const { tenant, model, promptTokens, cachedPromptTokens, completionTokens } =
    row ?? expect.fail(`${requestId} was served and is not billed`)
  return { tenant, model, requestId, promptTokens, cachedPromptTokens, completionTokens }
}

/** As the usage report states it. */
function sumOf(rows: readonly UsageRow[]) {
  const sum = (field: 'promptTokens' | 'cachedPromptTokens' | 'completionTokens') =>
    rows.reduce((total, row) => total + row[field], 0)
  const tokens = {
    promptTokens: sum('promptTokens'),
    cachedPromptTokens: sum('cachedPromptTokens'),
    completionTokens: sum('completionTokens'),
  }
  return {
    requests: rows.length,
    prompt_tokens: tokens.promptTokens,
    cached_prompt_tokens: tokens.cachedPromptTokens,
    completion_tokens: tokens.completionTokens,
    cost_pusd: String(costOf(tokens, DEFAULT_PRICES)),
  }
}
