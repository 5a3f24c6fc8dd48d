/** An invoice as a plain table: one row a line, money in USD and in exact pico-USD. */
import { billingPeriodOf } from '#db/billing-period.ts'
import { formatCsv } from '#db/csv.ts'
import { formatUsd } from '#db/money.ts'
import type { InvoiceDocument } from './invoice-document.ts'

/** Raised when a column is added; renaming one would be 2.0. */
export const INVOICE_CSV_VERSION = 'nozzle-invoice 1.0'

const COLUMNS = [
  'invoice_id',
  'line',
  'usage_period',
  'is_correction',
  'model',
  'model_id',
  'base_model',
  'kind',
  'price_version_id',
  'quantity_tokens',
  'unit_price_usd',
  'exact_pusd',
  'billed_usd',
]

export function formatInvoiceCsv({ invoice, lines }: InvoiceDocument): string {
  const rows = lines.map((line) => [
    invoice.id,
    String(line.line),
    billingPeriodOf(line.usageStart).name,
    String(line.isCorrection),
    line.model,
    line.modelId,
    line.baseModel,
    line.kind,
    line.priceId,
    String(line.quantity),
    formatUsd(line.unitPricePusd),
    String(line.exactPusd),
    formatUsd(line.billedPusd),
  ])
  return formatCsv(COLUMNS, rows)
}
