/**
 * An invoice as a file: content, and a manifest that says what the content is and how to check it.
 */

import { FOCUS_VERSION, formatFocusCsv } from './focus.ts'
import { formatInvoiceCsv, INVOICE_CSV_VERSION } from './invoice-csv.ts'
import { type InvoiceDocument, toDetail, toSummary } from './invoice-document.ts'

export const EXPORT_FORMATS = ['csv', 'focus', 'json'] as const
export type ExportFormat = (typeof EXPORT_FORMATS)[number]

const INVOICE_JSON_VERSION = 'nozzle-invoice-json 1.0'

export interface InvoiceExport {
  readonly content: string
  readonly contentType: string
  readonly fileName: string
  readonly manifest: Awaited<ReturnType<typeof createManifest>>
}

/** The JSON export has its manifest at its head; the digest there is of the `invoice` member. */
export async function exportInvoice(
  document: InvoiceDocument,
  format: ExportFormat,
): Promise<InvoiceExport> {
  const { period } = toSummary(document.invoice, document.tenant)
  const stem = `${document.tenant.name}-${period}`
  if (format === 'json') {
    const invoice = JSON.stringify(toDetail(document))
    const manifest = await createManifest(document, INVOICE_JSON_VERSION, invoice)
    const content = `{"manifest":${JSON.stringify(manifest)},"invoice":${invoice}}\n`
    return { content, contentType: 'application/json', fileName: `${stem}.json`, manifest }
  }
  const isFocus = format === 'focus'
  const content = isFocus ? formatFocusCsv(document) : formatInvoiceCsv(document)
  const schema = isFocus ? FOCUS_VERSION : INVOICE_CSV_VERSION
  return {
    content,
    contentType: 'text/csv; charset=utf-8',
    fileName: isFocus ? `${stem}.focus.csv` : `${stem}.csv`,
    manifest: await createManifest(document, schema, content),
  }
}

async function createManifest(document: InvoiceDocument, schema: string, content: string) {
  const { id, number, status, tenant, period, period_start, period_end, currency } = toSummary(
    document.invoice,
    document.tenant,
  )
  const detail = toDetail(document)
  return {
    schema,
    invoice_id: id,
    number,
    status,
    tenant_id: tenant.id,
    period,
    period_start,
    period_end,
    currency,
    as_of: detail.as_of,
    rows: document.lines.length,
    billed_total: detail.billed_usd,
    exact_total_pusd: detail.exact_pusd,
    sha256: await sha256(content),
  }
}

async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text))
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('')
}
