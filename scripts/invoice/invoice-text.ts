/** An invoice for people: its lines as a table, its total, and what is out of the ordinary. */
import { formatUsd, formatUsdPerMillion } from '#db/money.ts'
import type { InvoiceDetail } from '../lib/edge-replies.ts'
import { formatTable } from '../lib/output.ts'

export function formatInvoice(invoice: InvoiceDetail): string {
  const { tenant, period, status, number, billed_usd, exact_pusd, lines, notes } = invoice
  const title = number === null ? `${status} ${invoice.id}` : `invoice ${number} (${invoice.id})`
  const rows = lines.map((line) => [
    line.usage_period + (line.is_correction ? ' (correction)' : ''),
    line.model,
    line.base_model,
    line.kind.replaceAll('_', ' '),
    line.quantity.padStart(12),
    line.price_version_id === null ? 'unpriced' : formatUsdPerMillion(BigInt(line.unit_price_pusd)),
    formatUsd(BigInt(line.exact_pusd)),
    line.billed_usd.padStart(10),
  ])
  const columns = [
    'USED',
    'MODEL',
    'BASE',
    'TOKENS',
    '    QUANTITY',
    'USD/M',
    'EXACT USD',
    'BILLED USD',
  ]
  return [
    `${tenant.name}  ${period}  ${title}`,
    formatTable(columns, rows),
    `total ${billed_usd} USD (exact ${formatUsd(BigInt(exact_pusd))}), ${invoice.requests} requests`,
    ...footer('unpriced: not charged, no price was known', notes.unpriced_requests),
    ...footer('recovered: closed after a host crashed', notes.recovered_requests),
  ].join('\n')
}

function footer(what: string, requests: string): string[] {
  return requests === '0' ? [] : [`${requests} requests ${what}`]
}
