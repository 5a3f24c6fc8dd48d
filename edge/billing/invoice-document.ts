/**
 * An invoice with all that stands on it: what every format shows. Of a draft the sums are those of
 * its lines now; of a final invoice those that were stored with it, and lines that do not add up to
 * them are refused, not shown.
 */
import { billingPeriodOf } from '#db/billing-period.ts'
import type { Db } from '#db/database.ts'
import { formatUsd } from '#db/money.ts'
import { type InvoiceLine, listInvoiceLines } from '#db/queries/invoice-lines.ts'
import { draftCounts, type Invoice, type InvoiceCounts } from '#db/queries/invoices.ts'
import type { Tenant } from '#db/queries/tenants.ts'

export interface InvoiceDocument {
  readonly invoice: Invoice
  readonly tenant: Tenant
  /** Who provides the service and issues the invoice. */
  readonly issuer: string
  readonly lines: readonly InvoiceLine[]
  /** Sum of the lines, each rounded to a cent. */
  readonly billedPusd: bigint
  /** Sum of the lines before rounding. */
  readonly exactPusd: bigint
  readonly counts: InvoiceCounts
  /** When its content was fixed: finalized, or for a draft now. */
  readonly asOf: Date
}

export interface DocumentInput {
  readonly invoice: Invoice
  readonly tenant: Tenant
  readonly issuer: string
  readonly now: Date
}

/** Throws when the lines of a final invoice do not add up to its total. */
export async function readInvoiceDocument(db: Db, input: DocumentInput): Promise<InvoiceDocument> {
  const { invoice, tenant, issuer, now } = input
  const lines = await listInvoiceLines(db, invoice)
  const billedPusd = lines.reduce((sum, line) => sum + line.billedPusd, 0n)
  const exactPusd = lines.reduce((sum, line) => sum + line.exactPusd, 0n)
  const shared = { invoice, tenant, issuer, lines, billedPusd, exactPusd }
  if (invoice.status === 'draft') {
    return { ...shared, counts: await draftCounts(db, invoice), asOf: now }
  }
  const isWhole =
    lines.length === invoice.lineCount &&
    billedPusd === invoice.billedPusd &&
    exactPusd === invoice.exactPusd
  if (!isWhole) throw new Error(`the lines of invoice ${invoice.id} do not add up to its total`)
  return { ...shared, counts: storedCounts(invoice), asOf: invoice.finalizedAt ?? now }
}

function storedCounts(invoice: Invoice): InvoiceCounts {
  const { requests, unpricedRequests, recoveredRequests } = invoice
  return {
    requests: requests ?? 0n,
    unpricedRequests: unpricedRequests ?? 0n,
    recoveredRequests: recoveredRequests ?? 0n,
  }
}

/** As lists show it. Sums are null of a draft: they change until it is final. */
export function toSummary(invoice: Invoice, tenant: Tenant) {
  return {
    id: invoice.id,
    number: invoice.number,
    status: invoice.status,
    tenant: { id: tenant.id, name: tenant.name },
    period: billingPeriodOf(invoice.periodStart).name,
    period_start: toUtcSeconds(invoice.periodStart),
    period_end: toUtcSeconds(invoice.periodEnd),
    currency: invoice.currency,
    created_at: invoice.createdAt.toISOString(),
    finalized_at: invoice.finalizedAt?.toISOString() ?? null,
    billed_usd: invoice.billedPusd === null ? null : formatUsd(invoice.billedPusd),
  }
}

/** With lines and sums. Integers are text: they may pass 2⁵³. */
export function toDetail(document: InvoiceDocument) {
  const { invoice, tenant, issuer, lines, billedPusd, exactPusd, counts, asOf } = document
  return {
    ...toSummary(invoice, tenant),
    issuer,
    as_of: asOf.toISOString(),
    billed_usd: formatUsd(billedPusd),
    exact_pusd: String(exactPusd),
    requests: String(counts.requests),
    lines: lines.map((line) => ({
      line: line.line,
      model: line.model,
      model_id: line.modelId,
      base_model: line.baseModel,
      kind: line.kind,
      usage_period: billingPeriodOf(line.usageStart).name,
      is_correction: line.isCorrection,
      price_version_id: line.priceId,
      quantity: String(line.quantity),
      unit_price_pusd: String(line.unitPricePusd),
      exact_pusd: String(line.exactPusd),
      billed_usd: formatUsd(line.billedPusd),
    })),
    notes: {
      unpriced_requests: String(counts.unpricedRequests),
      recovered_requests: String(counts.recoveredRequests),
    },
  }
}

/** `2026-11-01T00:00:00Z`, as FOCUS wants times. */
export function toUtcSeconds(time: Date): string {
  return time.toISOString().replace(/\.\d{3}Z$/, 'Z')
}
