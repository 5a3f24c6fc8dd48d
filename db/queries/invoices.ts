/**
 * Invoices: a draft a month, finalized once. Finalizing is one statement, so that a crash leaves
 * all of it or nothing, and usage is taken by exactly one invoice: what the roll-ups count, less
 * what earlier invoices took. What comes later is the next invoice's.
 */
import { and, desc, eq, sql } from 'drizzle-orm'
import { type BillingPeriod, GRACE_MS, whyNotDue } from '../billing-period.ts'
import type { Db } from '../database.ts'
import { createId } from '../ids.ts'
import { type Invoice, invoices } from '../schema/invoices.ts'
import { drawLines, isPending, pendingColumns } from './invoice-lines.ts'
import { retryOnConflict } from './retry-on-conflict.ts'

export type { Invoice }

/** The period's invoice, whether it is new or was there; a new one is a draft. */
export async function createInvoice(
  db: Db,
  input: { readonly tenantId: string; readonly period: BillingPeriod },
): Promise<{ invoice: Invoice; isNew: boolean }> {
  const { tenantId, period } = input
  const [row] = await db
    .insert(invoices)
    .values({
      id: createId('inv'),
      tenantId,
      status: 'draft',
      periodStart: period.start,
      periodEnd: period.end,
      currency: 'USD',
    })
    .onConflictDoNothing({ target: [invoices.tenantId, invoices.periodStart] })
    .returning()
  if (row) return { invoice: row, isNew: true }
  const known = await findInvoice(db, { tenantId, period })
  if (known === null) throw new Error('an invoice that is taken is not there')
  return { invoice: known, isNew: false }
}

/** By id or by period; null when the tenant has no such invoice. */
export async function findInvoice(
  db: Db,
  which: { readonly tenantId: string } & (
    | { readonly id: string }
    | { readonly period: BillingPeriod }
  ),
): Promise<Invoice | null> {
  const isNamed =
    'id' in which ? eq(invoices.id, which.id) : eq(invoices.periodStart, which.period.start)
  const [row] = await db
    .select()
    .from(invoices)
    .where(and(eq(invoices.tenantId, which.tenantId), isNamed))
  return row ?? null
}

/** Newest period first. */
export async function listInvoices(db: Db, tenantId: string): Promise<Invoice[]> {
  return db
    .select()
    .from(invoices)
    .where(eq(invoices.tenantId, tenantId))
    .orderBy(desc(invoices.periodStart))
}

export interface FinalizeWish {
  readonly tenantId: string
  readonly id: string
  /** From a clock in step with the database's. */
  readonly now: Date
  /** Absent = GRACE_MS; 0 finalizes as soon as the period is over. */
  readonly graceMs?: number | undefined
}

/**
 * `already_final` changes nothing. `period_open`, `in_grace`: too early. `earlier_draft`: months
 * are finalized in order, so that a late event lands on the invoice of its own month.
 */
export type FinalizeOutcome =
  | { readonly kind: 'finalized' | 'already_final'; readonly invoice: Invoice }
  | { readonly kind: 'not_found' }
  | { readonly kind: 'period_open' | 'in_grace' | 'earlier_draft'; readonly invoice: Invoice }

/**
 * Call rollUpUsage before: usage that is not rolled up yet is left to the next invoice. Any number
 * of calls at once finalize once.
 */
export async function finalizeInvoice(db: Db, wish: FinalizeWish): Promise<FinalizeOutcome> {
  const result = await retryOnConflict(() => db.execute(takeAndClose(wish)))
  const invoice = await findInvoice(db, wish)
  if (invoice === null) return { kind: 'not_found' }
  if (result.rows.length > 0) return { kind: 'finalized', invoice }
  return { kind: whyNot(invoice, wish), invoice }
}

function whyNot(
  invoice: Invoice,
  { now, graceMs = GRACE_MS }: FinalizeWish,
): 'already_final' | 'period_open' | 'in_grace' | 'earlier_draft' {
  if (invoice.status === 'final') return 'already_final'
  return whyNotDue(invoice.periodEnd, now, graceMs) ?? 'earlier_draft'
}

/**
 * `numbered` locks the tenant's counter, which puts finalizing in order; `pending` locks the
 * roll-ups it takes, so that a roll-up that is written meanwhile is either seen whole or waits.
 * Both are read anew after their lock, so a second statement finds nothing left. The money that the
 * ledger moves and the lines are held equal by a check of the table.
 */
function takeAndClose({ tenantId, id, now, graceMs = GRACE_MS }: FinalizeWish) {
  // No grace, however it is given, reaches into the period itself.
  const latestEnd = new Date(now.getTime() - Math.max(0, graceMs)).toISOString()
  return sql`
    with draft as (
      select id, tenant_id, period_start, period_end from invoices
      where id = ${id} and tenant_id = ${tenantId} and status = 'draft'
        and period_end <= ${latestEnd}::timestamptz
        and not exists (select 1 from invoices earlier where earlier.tenant_id = invoices.tenant_id
          and earlier.status = 'draft' and earlier.period_start < invoices.period_start)
      for update
    ), numbered as (
      insert into invoice_numbers (tenant_id, last_number) select tenant_id, 1 from draft
      on conflict (tenant_id) do update set last_number = invoice_numbers.last_number + 1
      returning tenant_id, last_number
    ), pending as (
      select r.*, ${pendingColumns}
      from usage_rollups r join draft on draft.tenant_id = r.tenant_id
      join numbered on numbered.tenant_id = r.tenant_id
      where r.hour < draft.period_end and ${isPending}
      for update of r
    ), taken as (
      update usage_rollups r set invoiced_requests = p.requests,
        invoiced_prompt_tokens = p.prompt_tokens,
        invoiced_cached_prompt_tokens = p.cached_prompt_tokens,
        invoiced_completion_tokens = p.completion_tokens, invoiced_gpu_us = p.gpu_us,
        invoiced_swap_us = p.swap_us, invoiced_amount_pusd = p.amount_pusd
      from pending p
      where r.tenant_id = ${tenantId} and r.hour = p.hour and r.model = p.model
        and r.base_model = p.base_model and r.price_basis = p.price_basis and ${isSameNullables}
      returning p.pending_requests, p.pending_pusd, p.price_id
    ), ${drawLines}, written as (
      insert into invoice_lines (invoice_id, line, tenant_id, usage_start, is_correction, model,
        model_id, base_model, price_id, kind, quantity, unit_price_pusd, exact_pusd, billed_pusd)
      select * from drawn
      returning exact_pusd, billed_pusd
    ), lines as (
      select coalesce(sum(exact_pusd), 0) as exact, coalesce(sum(billed_pusd), 0) as billed,
        count(*)::integer as count
      from written
    ), moved as (
      select coalesce(sum(pending_pusd), 0) as unbilled,
        coalesce(sum(pending_requests), 0) as requests,
        coalesce(sum(pending_requests) filter (where price_id is null), 0) as unpriced
      from taken
    ), closed as (
      update invoices set status = 'final', number = numbered.last_number,
        finalized_at = ${now.toISOString()}::timestamptz, billed_pusd = lines.billed,
        exact_pusd = lines.exact, unbilled_pusd = moved.unbilled, line_count = lines.count,
        requests = moved.requests, unpriced_requests = moved.unpriced,
        recovered_requests = ${recoveredRequests}
      from draft, numbered, lines, moved
      where invoices.id = draft.id
      returning invoices.*
    ), posted as (${postTransfers})
    select id from closed`
}

/**
 * The rest of the roll-up's key. Equality alone can be hashed, and without it a model's keys would
 * each be held against all others; it cannot tell NULL from empty text, so the exact test goes
 * along.
 */
const isSameNullables = sql.raw(
  ['model_id', 'adapter_version_id', 'key_id', 'price_id']
    .map(
      (name) => `coalesce(r.${name}, '') = coalesce(p.${name}, '')
        and r.${name} is not distinct from p.${name}`,
    )
    .join(' and '),
)

/** Of the draft's month, as far as they are charged. Few, with an index of their own. */
const recoveredRequests = sql`(
  select count(*) from usage_events event
  where event.tenant_id = draft.tenant_id and event.source = 'recovered'
    and event.occurred_at >= draft.period_start and event.occurred_at < draft.period_end
    and not exists (select from usage_events higher where higher.request_id = event.request_id
      and higher.attempt > event.attempt and higher.attempt > 1))`

/**
 * Unbilled → receivable for the exact amount; the rounding goes between receivable and rounding. So
 * unbilled is cleared to the pico-USD, and receivable holds what the invoice says. An amount below
 * zero goes the other way round: entries have none.
 */
const postTransfers = sql`
  insert into ledger_entries
    (id, kind, debit_account, credit_account, amount_pusd, tenant_id, occurred_at, ingest_xid)
  select closed.id || '/' || kind, kind,
    case when amount > 0 then debit else credit end,
    case when amount > 0 then credit else debit end,
    abs(amount), tenant_id, finalized_at, ledger_xid()
  from closed cross join lateral (values
    ('invoice', unbilled_pusd, 'receivable/' || tenant_id, 'unbilled/' || tenant_id),
    ('rounding', billed_pusd - exact_pusd, 'receivable/' || tenant_id, 'rounding/' || tenant_id)
  ) moves(kind, amount, debit, credit)
  where amount <> 0`

/** What the lines do not say: how much stands behind them, and what of it is unusual. */
export interface InvoiceCounts {
  readonly requests: bigint
  /** Charged nothing, since no price was known. */
  readonly unpricedRequests: bigint
  /** Closed at their last progress after a host's crash: billed for what was delivered. */
  readonly recoveredRequests: bigint
}

/** Of a draft as it would be finalized now. */
export async function draftCounts(db: Db, invoice: Invoice): Promise<InvoiceCounts> {
  const { rows } = await db.execute<{ requests: string; unpriced: string; recovered: string }>(sql`
    with draft as (
      select id, tenant_id, period_start, period_end from invoices
      where id = ${invoice.id} and tenant_id = ${invoice.tenantId}
    ), pending as (
      select r.price_id, ${pendingColumns}
      from usage_rollups r join draft on draft.tenant_id = r.tenant_id
      where r.hour < draft.period_end and ${isPending}
    )
    select coalesce(sum(pending_requests), 0)::text as requests,
      coalesce(sum(pending_requests) filter (where price_id is null), 0)::text as unpriced,
      coalesce((select ${recoveredRequests} from draft), 0)::text as recovered
    from pending`)
  const [row] = rows
  return {
    requests: BigInt(row?.requests ?? 0),
    unpricedRequests: BigInt(row?.unpriced ?? 0),
    recoveredRequests: BigInt(row?.recovered ?? 0),
  }
}
