/**
 * What `--dry-run` says of an invoice: the look-ups and refusals of the change itself, without it.
 * Invariant: nothing here sends anything but GET.
 */
import { type BillingPeriod, GRACE_MS, whyNotDue } from '#db/billing-period.ts'
import { callEdge } from '../lib/api-client.ts'
import { CliError } from '../lib/cli-error.ts'
import type { CommandCall } from '../lib/command.ts'
import { type InvoiceDetail, invoiceList } from '../lib/edge-replies.ts'
import { requireOperator } from '../lib/require-operator.ts'
import { locateInvoices, readInvoice } from './invoice-request.ts'

/** Throws what creating the month's invoice would. */
export async function planCreate(call: CommandCall, month: BillingPeriod): Promise<void> {
  const { output } = call
  const { tenant } = await locateInvoices(call)
  const invoices = await lookUpInvoices(call)
  if (month.start.getTime() > Date.now()) {
    const message = `${month.name} has not begun: it begins ${month.start.toISOString()}`
    throw new CliError('refused', message)
  }
  const known = invoices.find(({ period }) => period === month.name)
  const plan = { dry_run: true, action: 'create_invoice', tenant, period: month.name }
  if (known === undefined) {
    output.data(plan, `would create the draft of ${tenant} for ${month.name}`)
    return
  }
  const text = `${tenant} has the invoice of ${month.name} already: ${known.status} ${known.id}`
  output.data({ ...plan, action: 'none', id: known.id }, text)
}

/** Throws what finalizing the named invoice would. */
export async function planFinalize(call: CommandCall): Promise<void> {
  const invoices = await lookUpInvoices(call)
  const invoice = await readInvoice(call)
  const { id, status, billed_usd } = invoice
  const plan = { dry_run: true, action: 'finalize_invoice', id, status, billed_usd }
  if (status === 'final') {
    call.output.data({ ...plan, action: 'none' }, `${id} is final already`)
    return
  }
  const graceMs = call.flags.isSet('ignore-grace') ? 0 : GRACE_MS
  const why = whyNotDue(new Date(invoice.period_end), new Date(), graceMs)
  if (why !== null) throw new CliError('refused', notDue(why, invoice))
  const earlier = invoices.find((row) => row.status === 'draft' && row.period < invoice.period)
  if (earlier) {
    throw new CliError('refused', `finalize the draft of ${earlier.period} first: ${earlier.id}`)
  }
  call.output.data(plan, `would finalize ${id}: ${billed_usd} USD`)
}

/** From when on a draft can be finalized without `--ignore-grace`. */
export function dueFrom({ period_end }: Pick<InvoiceDetail, 'period_end'>): Date {
  return new Date(Date.parse(period_end) + GRACE_MS)
}

async function lookUpInvoices(call: CommandCall) {
  const { target, path } = await locateInvoices(call)
  await requireOperator(target, call.signal)
  return (await callEdge(target, { method: 'GET', path, signal: call.signal }, invoiceList)).data
}

function notDue(why: 'period_open' | 'in_grace', invoice: InvoiceDetail): string {
  if (why === 'period_open') return `the period is not over: it ends ${invoice.period_end}`
  const until = dueFrom(invoice).toISOString()
  return `events that come late are waited for until ${until}; --ignore-grace finalizes now`
}
