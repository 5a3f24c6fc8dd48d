/** `nozzle invoice`: what a tenant is billed for a month. The operator makes and finalizes. */

import { downloadInvoice, readOutputFile, writeInvoiceFile } from '../invoice/invoice-file.ts'
import { locateInvoices, readInvoice } from '../invoice/invoice-request.ts'
import { formatInvoice } from '../invoice/invoice-text.ts'
import { readMonth } from '../invoice/month.ts'
import { dueFrom, planCreate, planFinalize } from '../invoice/plan.ts'
import { callEdge, toPath } from '../lib/api-client.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import { type InvoiceDetail, invoiceDetail, invoiceList } from '../lib/edge-replies.ts'
import { DRY_RUN_FLAG, EDGE_FLAGS, TENANT_FLAG } from '../lib/edge-target.ts'
import { formatTable, quoteForShell } from '../lib/output.ts'
import { formatFlag, readFormat } from '../lib/output-format.ts'

const WHICH = 'An invoice is named by its id or, for the tenant, by its month.'
const FORMATS = ['csv', 'json', 'focus', 'table'] as const

const create: Command = {
  name: 'invoice create',
  summary: "make a month's draft invoice",
  positionals: ['<month>'],
  flags: { ...TENANT_FLAG, ...EDGE_FLAGS, ...DRY_RUN_FLAG },
  details:
    'A draft shows the usage of the month so far and takes late events until it is finalized.\n' +
    'A month that has an invoice keeps it.',
  examples: ['nozzle invoice create 2026-11 --tenant acme'],
  async run(call) {
    const [text = ''] = call.positionals
    const month = readMonth(text)
    if (call.flags.isSet('dry-run')) return planCreate(call, month)
    const { target, path } = await locateInvoices(call)
    const json = { period: month.name }
    const request = { method: 'POST', path, json, signal: call.signal } as const
    const invoice = await callEdge(target, request, invoiceDetail)
    call.output.data(invoice, formatInvoice(invoice))
    if (invoice.status === 'draft' && !call.output.isJson) call.output.note(nextStep(call, invoice))
  },
}

const list: Command = {
  name: 'invoice ls',
  summary: "list a tenant's invoices",
  positionals: [],
  flags: { ...TENANT_FLAG, ...EDGE_FLAGS },
  examples: ['nozzle invoice ls --tenant acme'],
  async run(call) {
    const { target, path } = await locateInvoices(call)
    const invoices = await callEdge(
      target,
      { method: 'GET', path, signal: call.signal },
      invoiceList,
    )
    const rows = invoices.data.map((invoice) => [
      invoice.period,
      invoice.status,
      invoice.number ?? '',
      (invoice.billed_usd ?? 'draft').padStart(12),
      invoice.finalized_at ?? '',
      invoice.id,
    ])
    const columns = ['PERIOD', 'STATUS', 'NUMBER', '  BILLED USD', 'FINALIZED', 'ID']
    call.output.data(invoices, formatTable(columns, rows))
  },
}

const show: Command = {
  name: 'invoice show',
  summary: 'show an invoice with its lines',
  positionals: ['<invoice>'],
  flags: { ...TENANT_FLAG, ...EDGE_FLAGS },
  details: WHICH,
  examples: ['nozzle invoice show 2026-11 --tenant acme'],
  async run(call) {
    const invoice = await readInvoice(call)
    call.output.data(invoice, formatInvoice(invoice))
  },
}

const finalize: Command = {
  name: 'invoice finalize',
  summary: 'number a draft and close it for good',
  positionals: ['<invoice>'],
  flags: {
    ...TENANT_FLAG,
    'ignore-grace': { type: 'boolean', help: 'do not wait an hour for late events' },
    ...EDGE_FLAGS,
    ...DRY_RUN_FLAG,
  },
  details:
    `${WHICH}\nRefused while the month lasts and, without --ignore-grace, within an hour of it.\n` +
    'A final invoice never changes: what comes later is on the next one, as a correction.',
  examples: [
    'nozzle invoice finalize 2026-11 --tenant acme',
    'nozzle invoice finalize inv_… --json',
  ],
  async run(call) {
    if (call.flags.isSet('dry-run')) return planFinalize(call)
    const { target, path } = await locateInvoices(call)
    const [named = ''] = call.positionals
    const json = { ignore_grace: call.flags.isSet('ignore-grace') }
    const invoice = await callEdge(
      target,
      { method: 'POST', path: path + toPath(named, 'finalize'), json, signal: call.signal },
      invoiceDetail,
    )
    call.output.data(invoice, formatInvoice(invoice))
  },
}

const exportFile: Command = {
  name: 'invoice export',
  summary: 'write an invoice as table, CSV, JSON or FOCUS 1.2',
  positionals: ['<invoice>'],
  flags: {
    ...TENANT_FLAG,
    format: formatFlag(FORMATS),
    output: { type: 'string', value: 'file', help: 'file to write (default: stdout)' },
    ...EDGE_FLAGS,
  },
  details:
    `${WHICH} Drafts can be exported too.\n` +
    'The manifest (schema, period, rows, total, SHA-256) goes beside the file as\n' +
    '<file>.manifest.json, to stderr without --output, and heads the JSON format.',
  examples: [
    'nozzle invoice export 2026-11 --tenant acme --format focus --output acme.csv',
    'nozzle invoice export 2026-11 --tenant acme --format json',
  ],
  async run(call) {
    const format = readFormat(call, FORMATS)
    const file = readOutputFile(call)
    const { content, manifest } =
      format === 'table'
        ? { content: `${formatInvoice(await readInvoice(call))}\n`, manifest: null }
        : await downloadInvoice(call, format)
    if (file === undefined) {
      call.output.raw(content)
      if (manifest !== null && format !== 'json') call.output.note(manifest)
      return
    }
    writeInvoiceFile(file, content, format === 'json' ? null : manifest)
    call.output.note(
      `wrote ${file}${manifest === null || format === 'json' ? '' : ' and its manifest'}`,
    )
  },
}

/** Where the draft goes from here, in the words of the tenant that was named. */
function nextStep({ flags }: CommandCall, invoice: InvoiceDetail): string {
  const tenant = flags.text('tenant')
  const forTenant = tenant ? ` --tenant ${quoteForShell(tenant)}` : ''
  const line = `nozzle invoice finalize ${invoice.id}${forTenant}`
  const from = dueFrom(invoice)
  return from.getTime() <= Date.now() ? `Next: ${line}` : `From ${from.toISOString()} on: ${line}`
}

export const invoiceCommands: readonly Command[] = [create, list, show, finalize, exportFile]
