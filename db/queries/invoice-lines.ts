/**
 * Lines of invoices: SQL that makes them of pending usage, for a draft's preview and for the
 * statement that finalizes alike, and the reading of both kinds.
 */
import { and, asc, eq, type SQL, sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import { PUSD_PER_CENT } from '../money.ts'
import { type InvoiceLine, invoiceLines, type TokenKind } from '../schema/invoice-lines.ts'
import type { Invoice } from '../schema/invoices.ts'

export type { InvoiceLine, TokenKind }

/** To a whole cent, half away from zero: money.ts's roundToCent. `div` truncates, exactly. */
function roundToCentSql(amount: SQL): SQL {
  const [cent, half] = [sql.raw(String(PUSD_PER_CENT)), sql.raw(String(PUSD_PER_CENT / 2n))]
  return sql`sign(${amount}) * div(abs(${amount}) + ${half}, ${cent}) * ${cent}`
}

/** What a roll-up holds beyond what final invoices took of it. */
export const pendingColumns = sql`
  r.requests - r.invoiced_requests as pending_requests,
  r.prompt_tokens - r.invoiced_prompt_tokens as pending_prompt,
  r.cached_prompt_tokens - r.invoiced_cached_prompt_tokens as pending_cached,
  r.completion_tokens - r.invoiced_completion_tokens as pending_completion,
  r.amount_pusd - r.invoiced_amount_pusd as pending_pusd`

/** Something of the roll-up `r` is on no final invoice. */
export const isPending = sql`(r.requests, r.prompt_tokens, r.cached_prompt_tokens,
    r.completion_tokens, r.gpu_us, r.swap_us, r.amount_pusd)
  is distinct from (r.invoiced_requests, r.invoiced_prompt_tokens, r.invoiced_cached_prompt_tokens,
    r.invoiced_completion_tokens, r.invoiced_gpu_us, r.invoiced_swap_us, r.invoiced_amount_pusd)`

/**
 * CTEs from `pending` (rows of usage_rollups with pendingColumns) and `draft` (one invoice) to
 * `drawn`: the invoice's lines, numbered. Oldest month first, a model's kinds together.
 */
export const drawLines = sql`
  grouped as (
    select draft.id as invoice_id, draft.tenant_id, draft.period_start,
      date_trunc('month', pending.hour, 'UTC') as usage_start,
      model, model_id, base_model, price_id,
      sum(pending_prompt - pending_cached) as prompt, sum(pending_cached) as cached,
      sum(pending_completion) as completion
    from pending join draft on draft.tenant_id = pending.tenant_id
    group by 1, 2, 3, 4, model, model_id, base_model, price_id
  ), itemized as (
    select grouped.*, kinds.*, kinds.quantity * kinds.unit_price_pusd as exact
    from grouped
    left join prices on prices.id = grouped.price_id
    cross join lateral (values
      ('prompt', 1, prompt, coalesce(prices.prompt_pusd, 0)),
      ('cached_prompt', 2, cached, coalesce(prices.cached_prompt_pusd, 0)),
      ('completion', 3, completion, coalesce(prices.completion_pusd, 0))
    ) kinds(kind, place, quantity, unit_price_pusd)
    where kinds.quantity <> 0
  ), drawn as (
    select invoice_id, row_number() over (
        order by usage_start, model, model_id, base_model, price_id, place
      )::integer as line,
      tenant_id, usage_start,
      usage_start < period_start and exists (
        select 1 from invoices earlier where earlier.tenant_id = itemized.tenant_id
          and earlier.status = 'final' and earlier.period_start = itemized.usage_start
      ) as is_correction,
      model, model_id, base_model, price_id, kind, quantity, unit_price_pusd,
      exact as exact_pusd, ${roundToCentSql(sql`exact`)} as billed_pusd
    from itemized
  )`

/** As stored of a final invoice; of a draft as they would be now. In the order of their numbers. */
export async function listInvoiceLines(db: Db, invoice: Invoice): Promise<InvoiceLine[]> {
  if (invoice.status === 'draft') return previewLines(db, invoice)
  return db
    .select()
    .from(invoiceLines)
    .where(and(eq(invoiceLines.invoiceId, invoice.id), eq(invoiceLines.tenantId, invoice.tenantId)))
    .orderBy(asc(invoiceLines.line))
}

interface DrawnRow extends Record<string, unknown> {
  readonly line: number
  readonly usage_start: string
  readonly is_correction: boolean
  readonly model: string
  readonly model_id: string | null
  readonly base_model: string
  readonly price_id: string | null
  readonly kind: TokenKind
  readonly quantity: string
  readonly unit_price_pusd: string
  readonly exact_pusd: string
  readonly billed_pusd: string
}

async function previewLines(db: Db, invoice: Invoice): Promise<InvoiceLine[]> {
  const { rows } = await db.execute<DrawnRow>(sql`
    with draft as (
      select id, tenant_id, period_start, period_end from invoices
      where id = ${invoice.id} and tenant_id = ${invoice.tenantId}
    ), pending as (
      select r.*, ${pendingColumns}
      from usage_rollups r join draft on draft.tenant_id = r.tenant_id
      where r.hour < draft.period_end and ${isPending}
    ), ${drawLines}
    select line, extract(epoch from usage_start)::bigint::text as usage_start, is_correction, model,
      model_id, base_model, price_id, kind, quantity::text,
      unit_price_pusd::text, exact_pusd::text, billed_pusd::text
    from drawn order by line`)
  return rows.map((row) => ({
    invoiceId: invoice.id,
    line: row.line,
    tenantId: invoice.tenantId,
    usageStart: new Date(Number(row.usage_start) * 1000),
    isCorrection: row.is_correction,
    model: row.model,
    modelId: row.model_id,
    baseModel: row.base_model,
    priceId: row.price_id,
    kind: row.kind,
    quantity: BigInt(row.quantity),
    unitPricePusd: BigInt(row.unit_price_pusd),
    exactPusd: BigInt(row.exact_pusd),
    billedPusd: BigInt(row.billed_pusd),
  }))
}
