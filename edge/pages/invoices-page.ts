/** A tenant's invoices, and one of them with its lines and files. */
import { html } from 'hono/html'
import { EXPORT_FORMATS } from '../billing/export.ts'
import { badge, facts, type Html, integer, moment, path, table, usd } from './html.ts'
import type { Visit } from './visit.ts'
import { invoiceDetail, invoiceList } from './wire.ts'

export async function showInvoicesPage(visit: Visit): Promise<Response> {
  const { data } = await visit.api.get(apiPath(visit), invoiceList)
  return visit.show({
    title: 'Invoices',
    content: table({
      caption: `Invoices of ${visit.tenantName}`,
      columns: [
        { head: 'Month' },
        { head: 'Number' },
        { head: 'State' },
        { head: 'Total', isNumber: true },
        { head: 'Final since' },
      ],
      rows: data.map((invoice) => [
        html`<a href="${pagePath(visit, invoice.id)}">${invoice.period}</a>`,
        invoice.number ?? '–',
        state(invoice.status),
        invoice.billed_usd === null ? 'open' : `$${invoice.billed_usd}`,
        moment(invoice.finalized_at),
      ]),
      empty: 'There is no invoice yet: the operator makes one per month.',
    }),
  })
}

export async function showInvoicePage(visit: Visit): Promise<Response> {
  const invoice = await visit.api.get(apiPath(visit, invoiceId(visit)), invoiceDetail)
  const { notes } = invoice
  const here = pagePath(visit, invoice.id)
  return visit.show({
    title: `Invoice ${invoice.number ?? invoice.period}`,
    content: html`${facts([
      { name: 'Month', value: invoice.period },
      { name: 'State', value: state(invoice.status) },
      { name: 'Issuer', value: invoice.issuer },
      { name: 'As of', value: moment(invoice.as_of) },
      { name: 'Requests', value: integer(invoice.requests) },
      { name: 'Total', value: `$${invoice.billed_usd}` },
    ])}
${table({
  caption: 'Lines',
  columns: [
    { head: 'Line' },
    { head: 'Model' },
    { head: 'Kind' },
    { head: 'Used in' },
    { head: 'Quantity', isNumber: true },
    { head: 'Price of a million', isNumber: true },
    { head: 'Amount', isNumber: true },
  ],
  rows: invoice.lines.map((line) => [
    line.line,
    line.model,
    line.is_correction ? `${line.kind} (correction)` : line.kind,
    line.usage_period,
    integer(line.quantity),
    usd(line.unit_price_pusd * 1_000_000n),
    `$${line.billed_usd}`,
  ]),
  empty: 'Nothing was used.',
})}
${note(notes.unpriced_requests, 'had no price when they came, and cost nothing.')}
${note(notes.recovered_requests, 'were closed at their last progress after a host had crashed.')}
<section><h2>Files</h2><ul>${EXPORT_FORMATS.map(
      (format) => html`<li><a href="${here}/export?format=${format}">${format}</a></li>`,
    )}</ul></section>`,
  })
}

/** The file as the API makes it. */
export function downloadInvoiceFile(visit: Visit): Promise<Response> {
  const { search } = new URL(visit.c.req.url)
  return visit.api.reply('GET', `${apiPath(visit, invoiceId(visit), 'export')}${search}`, null)
}

function state(status: string): Html {
  return badge(status, status === 'final' ? 'good' : 'warn')
}

function note(requests: string, what: string): Html | null {
  return requests === '0' ? null : html`<p class="help">${integer(requests)} requests ${what}</p>`
}

function invoiceId({ c }: Visit): string {
  return c.req.param('invoice') ?? ''
}

function pagePath({ tenantName }: Visit, id: string): string {
  return path('ui', 't', tenantName, 'invoices', id)
}

function apiPath({ tenantName }: Visit, ...rest: readonly string[]): string {
  return path('v1', 'tenants', tenantName, 'invoices', ...rest)
}
