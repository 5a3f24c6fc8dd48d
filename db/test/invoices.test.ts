import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GRACE_MS, parseBillingPeriod } from '../billing-period.ts'
import { type Database, openDatabase } from '../client.ts'
import type { Db } from '../database.ts'
import { createId } from '../ids.ts'
import { PUSD_PER_CENT } from '../money.ts'
import { type InvoiceLine, listInvoiceLines } from '../queries/invoice-lines.ts'
import {
  createInvoice,
  draftCounts,
  type FinalizeOutcome,
  finalizeInvoice,
  findInvoice,
  type Invoice,
  listInvoices,
} from '../queries/invoices.ts'
import { recordUsageEvents } from '../queries/usage.ts'
import { rollUpUsage } from '../queries/usage-rollups.ts'
import { ledgerTotals } from '../queries/usage-totals.ts'
import { describeOnEachDatabase, NO_POSTGRES, POSTGRES } from './support/database.ts'
import { type PostgresServer, startPostgres } from './support/postgres-server.ts'
import { addBaseModel, addTenant, createEvent } from './support/records.ts'
import { costOfEvent, createHistory, recountLines } from './support/usage-history.ts'

const LATER = new Date('2026-12-24T00:00:00Z')

function month(name: string) {
  const period = parseBillingPeriod(name)
  if (period === null) throw new Error(`${name} is no month`)
  return period
}

async function draftOf(db: Db, tenantId: string, name: string): Promise<Invoice> {
  return (await createInvoice(db, { tenantId, period: month(name) })).invoice
}

/** Rolls up and finalizes; throws when refused. */
async function close(db: Db, { tenantId, id }: Invoice): Promise<Invoice> {
  await rollUpUsage(db)
  const outcome = await finalizeInvoice(db, { tenantId, id, now: LATER })
  if (outcome.kind === 'finalized') return outcome.invoice
  throw new Error(`not finalized: ${outcome.kind}`)
}

const toText = (line: InvoiceLine): string =>
  [
    line.usageStart.toISOString().slice(0, 7),
    ...[line.model, line.baseModel, line.priceId, line.kind],
    ...[line.quantity, line.exactPusd, line.billedPusd],
  ].join(' ')

/** Debits less credits of a tenant's accounts. */
async function balances(db: Db, tenantId: string): Promise<Record<string, bigint>> {
  const { rows } = await db.execute<{ account: string; balance: string }>(sql`
    select split_part(account, '/', 1) as account, sum(amount)::text as balance
    from ledger_entries cross join lateral (values (debit_account, amount_pusd),
      (credit_account, -amount_pusd)) sides(account, amount)
    where tenant_id = ${tenantId} and split_part(account, '/', 1) <> 'revenue'
    group by 1`)
  return Object.fromEntries(rows.map(({ account, balance }) => [account, BigInt(balance)]))
}

/** An event of that moment: its id says when. */
const bornAt = (ended_at: string) => ({
  ended_at,
  request_id: createId('req', Date.parse(ended_at)),
})

describeOnEachDatabase((db) => {
  it('bills what an event by event recount finds, and shows it before', async () => {
    const { id: tenantId } = await addTenant(db())
    const options = { periods: ['2026-09', '2026-10'], count: 600, seed: 7 }
    const { events: all, prices } = await createHistory(db(), tenantId, options)
    // The next month begins where this one ends, to the millisecond.
    const [first] = all
    const ends = ['2026-09-30T23:59:59.999Z', '2026-10-01T00:00:00.000Z']
    const edges = ends.map((ended_at) => createEvent(tenantId, { ...first, ...bornAt(ended_at) }))
    await recordUsageEvents(db(), [...all, ...edges])
    const events = [...all, ...edges].filter((event) => event.ended_at.startsWith('2026-09'))
    const requests = BigInt(events.length)
    const draft = await draftOf(db(), tenantId, '2026-09')
    await rollUpUsage(db())
    const preview = await listInvoiceLines(db(), draft)
    const counts = await draftCounts(db(), draft)
    const final = await close(db(), draft)
    const lines = await listInvoiceLines(db(), final)
    expect(lines.map(toText).toSorted()).toEqual(recountLines(events, prices))
    expect(lines).toEqual(preview)
    expect(lines.map(({ line }) => line)).toEqual(lines.map((_, i) => i + 1))
    const exact = events.reduce((sum, event) => sum + costOfEvent(event, prices), 0n)
    const billed = lines.reduce((sum, line) => sum + line.billedPusd, 0n)
    expect(final).toMatchObject({ exactPusd: exact, billedPusd: billed, requests })
    expect(billed % PUSD_PER_CENT).toBe(0n)
    const unpriced = events.filter((event) => event.base_model === 'nobody-priced-it').length
    expect(final.unpricedRequests).toBe(BigInt(unpriced))
    expect(counts).toMatchObject({ requests, unpricedRequests: BigInt(unpriced) })
    const october = all.concat(edges).filter((event) => !events.includes(event))
    expect(await balances(db(), tenantId)).toEqual({
      unbilled: october.reduce((sum, event) => sum + costOfEvent(event, prices), 0n),
      receivable: billed,
      rounding: exact - billed,
    })
  })

  it('puts what comes late on the next invoice, as a correction of its month', async () => {
    const { id: tenantId } = await addTenant(db())
    const base_model = await addBaseModel(db())
    const event = createEvent(tenantId, { base_model, ended_at: '2026-08-31T23:59:59.999Z' })
    await recordUsageEvents(db(), [event])
    const first = await close(db(), await draftOf(db(), tenantId, '2026-08'))
    // A late event of August, and one attempt more of what August has billed already.
    const late = createEvent(tenantId, { base_model, ended_at: '2026-08-01T00:00:00.000Z' })
    const again = { ...event, attempt: 2, prompt_tokens: 40, completion_tokens: 5 }
    const own = createEvent(tenantId, { base_model, ended_at: '2026-09-01T00:00:00.000Z' })
    await recordUsageEvents(db(), [late, again, own])
    const second = await close(db(), await draftOf(db(), tenantId, '2026-09'))
    const shown = (await listInvoiceLines(db(), second)).map((line) => [
      line.usageStart.toISOString().slice(0, 7),
      line.isCorrection,
      line.kind,
      line.quantity,
    ])
    // The late one in full, and what `again` has less than the attempt it replaces: of the prompt's
    // 60 uncached tokens nothing is left, so they have no line.
    expect(shown).toEqual([
      ['2026-08', true, 'cached_prompt', 40n],
      ['2026-08', true, 'completion', 5n],
      ['2026-09', false, 'prompt', 60n],
      ['2026-09', false, 'cached_prompt', 40n],
      ['2026-09', false, 'completion', 25n],
    ])
    expect(await listInvoiceLines(db(), first)).toHaveLength(3)
    expect([first.number, second.number]).toEqual([1, 2])
    expect((await balances(db(), tenantId)).unbilled).toBe(0n)
  })

  it('bills below zero when a correction takes back more than was used', async () => {
    const { id: tenantId } = await addTenant(db())
    const base_model = await addBaseModel(db())
    const change = { base_model, ended_at: '2026-08-10T00:00:00.000Z', completion_tokens: 1e6 }
    const event = createEvent(tenantId, change)
    await recordUsageEvents(db(), [event])
    const first = await close(db(), await draftOf(db(), tenantId, '2026-08'))
    await recordUsageEvents(db(), [{ ...event, attempt: 2, completion_tokens: 10 }])
    const second = await close(db(), await draftOf(db(), tenantId, '2026-09'))
    expect(second.billedPusd).toBe(-40n * PUSD_PER_CENT)
    expect(await balances(db(), tenantId)).toMatchObject({
      unbilled: 0n,
      receivable: (first.billedPusd ?? 0n) + (second.billedPusd ?? 0n),
    })
    const [line] = await listInvoiceLines(db(), second)
    expect(line).toMatchObject({ isCorrection: true, kind: 'completion', quantity: -999_990n })
  })

  it('counts requests that a crash ended, once, and only what stays charged', async () => {
    const { id: tenantId } = await addTenant(db())
    const ended_at = '2026-08-10T00:00:00.000Z'
    const lost = createEvent(tenantId, { ended_at, source: 'recovered' })
    const retried = createEvent(tenantId, { ended_at, source: 'recovered' })
    const second = { ...retried, attempt: 2, source: 'engine' as const }
    await recordUsageEvents(db(), [lost, retried, second])
    const draft = await draftOf(db(), tenantId, '2026-08')
    await rollUpUsage(db())
    expect(await draftCounts(db(), draft)).toMatchObject({ recoveredRequests: 1n })
    expect(await close(db(), draft)).toMatchObject({ recoveredRequests: 1n, requests: 2n })
  })

  it('is not due before its period and its grace are over, nor before an earlier draft', async () => {
    const { id: tenantId } = await addTenant(db())
    const august = await draftOf(db(), tenantId, '2026-08')
    const september = await draftOf(db(), tenantId, '2026-09')
    const end = august.periodEnd.getTime()
    const ask = async (invoice: Invoice, ms: number, graceMs?: number) =>
      (
        await finalizeInvoice(db(), {
          ...{ tenantId, id: invoice.id, now: new Date(ms) },
          ...(graceMs !== undefined && { graceMs }),
        })
      ).kind
    expect(await ask(august, end - 1)).toBe('period_open')
    expect(await ask(august, end - 1, 0)).toBe('period_open')
    expect(await ask(august, end - 1, -5)).toBe('period_open')
    expect(await ask(august, end)).toBe('in_grace')
    expect(await ask(august, end + GRACE_MS - 1)).toBe('in_grace')
    expect(await ask(september, LATER.getTime())).toBe('earlier_draft')
    expect(await ask(august, end, 0)).toBe('finalized')
    expect(await ask(august, end, 0)).toBe('already_final')
    expect(await ask(september, LATER.getTime())).toBe('finalized')
    expect(await findInvoice(db(), { tenantId, period: month('2026-08') })).toMatchObject({
      ...{ number: 1, billedPusd: 0n, lineCount: 0 },
      finalizedAt: new Date(end),
    })
  })

  it('is one a month, whoever asks', async () => {
    const { id: tenantId } = await addTenant(db())
    const asked = [1, 2, 3, 4].map(() =>
      createInvoice(db(), { tenantId, period: month('2026-08') }),
    )
    const answers = await Promise.all(asked)
    expect(new Set(answers.map(({ invoice }) => invoice.id)).size).toBe(1)
    expect(answers.filter(({ isNew }) => isNew)).toHaveLength(1)
    expect(await listInvoices(db(), tenantId)).toHaveLength(1)
  })

  it('never changes once final', async () => {
    const { id: tenantId } = await addTenant(db())
    const event = createEvent(tenantId, { ended_at: '2026-08-10T00:00:00.000Z' })
    await recordUsageEvents(db(), [event])
    const { id } = await close(db(), await draftOf(db(), tenantId, '2026-08'))
    const refused = {
      cause: { message: expect.stringMatching(/invoice(s|_lines) is append-only/) },
    }
    for (const change of [
      sql`update invoices set billed_pusd = 0 where id = ${id}`,
      sql`update invoices set status = 'draft' where id = ${id}`,
      sql`delete from invoices where id = ${id}`,
      sql`update invoice_lines set billed_pusd = 0 where invoice_id = ${id}`,
      sql`delete from invoice_lines where invoice_id = ${id}`,
    ]) {
      await expect(db().execute(change)).rejects.toMatchObject(refused)
    }
  })

  it("never shows, finalizes or counts another tenant's", async () => {
    const [mine, theirs] = [await addTenant(db()), await addTenant(db())]
    const ended_at = '2026-08-10T00:00:00.000Z'
    await recordUsageEvents(db(), [createEvent(theirs.id, { ended_at })])
    const invoice = await draftOf(db(), theirs.id, '2026-08')
    await rollUpUsage(db())
    const asMine = { tenantId: mine.id, id: invoice.id }
    expect(await findInvoice(db(), asMine)).toBeNull()
    expect(await listInvoices(db(), mine.id)).toEqual([])
    expect(await finalizeInvoice(db(), { ...asMine, now: LATER })).toEqual({ kind: 'not_found' })
    expect(await listInvoiceLines(db(), { ...invoice, tenantId: mine.id })).toEqual([])
    const own = await close(db(), await draftOf(db(), mine.id, '2026-08'))
    expect(own).toMatchObject({ requests: 0n, lineCount: 0 })
    const final = await close(db(), invoice)
    expect(await listInvoiceLines(db(), { ...final, tenantId: mine.id })).toEqual([])
    expect(await listInvoiceLines(db(), final)).toHaveLength(3)
  })

  it('takes each token once while events, roll-ups and finalizing go on at once', async () => {
    const { id: tenantId } = await addTenant(db())
    const periods = ['2026-06', '2026-07', '2026-08']
    const { events, prices } = await createHistory(db(), tenantId, { periods, count: 360, seed: 9 })
    const drafts = await Promise.all(periods.map((name) => draftOf(db(), tenantId, name)))
    const outcomes: FinalizeOutcome['kind'][] = []
    const keepClosing = async () => {
      for (const { id } of [...drafts, ...drafts]) {
        await rollUpUsage(db())
        outcomes.push((await finalizeInvoice(db(), { tenantId, id, now: LATER })).kind)
      }
    }
    const keepWriting = async (offset: number) => {
      for (let at = offset; at < events.length; at += 60) {
        await recordUsageEvents(db(), events.slice(at, at + 20))
        await rollUpUsage(db())
      }
    }
    await Promise.all([...[0, 20, 40].map(keepWriting), ...[1, 2, 3].map(keepClosing)])
    await close(db(), await draftOf(db(), tenantId, '2026-09'))
    const all = await listInvoices(db(), tenantId)
    expect(all.map(({ number }) => number)).toEqual([4, 3, 2, 1])
    expect(outcomes.filter((kind) => kind === 'finalized')).toHaveLength(3)
    const lines = (await Promise.all(all.map((one) => listInvoiceLines(db(), one)))).flat()
    const exact = events.reduce((sum, event) => sum + costOfEvent(event, prices), 0n)
    expect(lines.reduce((sum, line) => sum + line.exactPusd, 0n)).toBe(exact)
    expect(all.reduce((sum, one) => sum + (one.requests ?? 0n), 0n)).toBe(360n)
    expect(await ledgerTotals(db(), { tenantId })).toEqual({ requests: 360, amountPusd: exact })
    const billed = all.reduce((sum, one) => sum + (one.billedPusd ?? 0n), 0n)
    expect(await balances(db(), tenantId)).toMatchObject({ unbilled: 0n, receivable: billed })
  })
})

describe.skipIf(POSTGRES === null)(`on PostgreSQL (${POSTGRES ?? NO_POSTGRES})`, () => {
  let server: PostgresServer
  let database: Database
  beforeAll(async () => {
    server = await startPostgres(POSTGRES ?? '')
    database = await openDatabase(server.url)
    await database.migrate()
  })
  afterAll(async () => {
    await database.close()
    await server.stop()
  })

  /** Ends the session that finalizes, while it waits for what another one holds. */
  async function killWhileItWaits(statement: Promise<unknown>): Promise<void> {
    const killed = expect(statement).rejects.toMatchObject({ cause: { code: '57P01' } })
    const kill = sql`select pg_terminate_backend(pid) from pg_stat_activity
      where wait_event_type = 'Lock' and query like '%invoice_numbers%'`
    while ((await database.db.execute(kill)).rows.length === 0);
    await killed
  }

  it('leaves nothing of an invoice that a crash cut off in the middle', async () => {
    const { db } = database
    const { id: tenantId } = await addTenant(db)
    const base_model = await addBaseModel(db)
    const ended_at = '2026-08-10T00:00:00.000Z'
    await recordUsageEvents(db, [createEvent(tenantId, { base_model, ended_at })])
    const draft = await draftOf(db, tenantId, '2026-08')
    await rollUpUsage(db)
    const before = await balances(db, tenantId)
    const hold = sql`
      with held as (select 1 from usage_rollups where tenant_id = ${tenantId} for update)
      select pg_sleep(60) from held`
    const letGo = expect(db.execute(hold)).rejects.toMatchObject({ cause: { code: '57014' } })
    const isHeld = sql`select 1 from pg_stat_activity where wait_event = 'PgSleep'`
    while ((await db.execute(isHeld)).rows.length === 0);
    await killWhileItWaits(finalizeInvoice(db, { tenantId, id: draft.id, now: LATER }))
    await db.execute(sql`select pg_cancel_backend(pid) from pg_stat_activity
      where wait_event = 'PgSleep'`)
    await letGo
    expect(await findInvoice(db, draft)).toMatchObject({ status: 'draft', number: null })
    expect(await balances(db, tenantId)).toEqual(before)
    expect(await close(db, draft)).toMatchObject({ number: 1, lineCount: 3 })
  })
})
