/** `nozzle invoice`: what a tenant is billed for a month. The operator makes and finalizes. */
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { formatUsd, formatUsdPerMillion } from '#db/money.ts'
import { callEdge, sendToEdge, toPath } from '../lib/api-client.ts'
import { CliError, toCliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import {
  exportManifest,
  type InvoiceDetail,
  invoiceDetail,
  invoiceList,
} from '../lib/edge-replies.ts'
import {
  DRY_RUN_FLAG,
  EDGE_FLAGS,
  locateEdge,
  resolveTenant,
  TENANT_FLAG,
} from '../lib/edge-target.ts'
import { formatTable } from '../lib/output.ts'
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
    const [period = ''] = call.positionals
    const { target, tenant, path } = locateInvoices(call)
    if (call.flags.isSet('dry-run')) {
      const plan = { dry_run: true, action: 'create_invoice', tenant, period }
      call.output.data(plan, `would create the draft of ${tenant} for ${period}`)
      return
    }
    const request = { method: 'POST', path, json: { period }, signal: call.signal } as const
    const invoice = await callEdge(target, request, invoiceDetail)
    call.output.data(invoice, formatInvoice(invoice))
    if (invoice.status === 'draft') call.output.note(`Next: nozzle invoice finalize ${invoice.id}`)
  },
}

const list: Command = {
  name: 'invoice ls',
  summary: "list a tenant's invoices",
  positionals: [],
  flags: { ...TENANT_FLAG, ...EDGE_FLAGS },
  examples: ['nozzle invoice ls --tenant acme'],
  async run(call) {
    const { target, path } = locateInvoices(call)
    const invoices = await callEdge(
      target,
      { method: 'GET', path, signal: call.signal },
      invoiceList,
    )
    const rows = invoices.data.map((invoice) => [
      invoice.period,
      invoice.status,
      invoice.number ?? '',
      (invoice.billed_usd ?? '').padStart(12),
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
    const { target, path } = locateInvoices(call)
    if (call.flags.isSet('dry-run')) {
      const { id, status, billed_usd } = await readInvoice(call)
      const plan = { dry_run: true, action: 'finalize_invoice', id, status, billed_usd }
      const text = status === 'final' ? `${id} is final` : `would finalize ${id}: ${billed_usd} USD`
      call.output.data(plan, text)
      return
    }
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
    const file = call.flags.text('output')
    const { content, manifest } =
      format === 'table'
        ? { content: `${formatInvoice(await readInvoice(call))}\n`, manifest: null }
        : await download(call, format)
    if (file === undefined) {
      call.output.raw(content)
      if (manifest !== null && format !== 'json') call.output.note(manifest)
      return
    }
    writeFiles(file, content, format === 'json' ? null : manifest)
    call.output.note(
      `wrote ${file}${manifest === null || format === 'json' ? '' : ' and its manifest'}`,
    )
  },
}

function locateInvoices(call: CommandCall) {
  const target = locateEdge(call)
  const tenant = resolveTenant(call, target)
  return { target, tenant, path: toPath('v1', 'tenants', tenant, 'invoices') }
}

function readInvoice(call: CommandCall): Promise<InvoiceDetail> {
  const { target, path } = locateInvoices(call)
  const [named = ''] = call.positionals
  const request = { method: 'GET', path: path + toPath(named), signal: call.signal } as const
  return callEdge(target, request, invoiceDetail)
}

/** Content as it came, once it matches the manifest that came with it. */
async function download(
  call: CommandCall,
  format: string,
): Promise<{ content: string; manifest: string }> {
  const { target, path } = locateInvoices(call)
  const [named = ''] = call.positionals
  const query = `?format=${encodeURIComponent(format)}`
  const request = {
    method: 'GET',
    path: path + toPath(named, 'export') + query,
    signal: call.signal,
  } as const
  const response = await sendToEdge(target, request)
  const content = await response.text()
  const manifest = response.headers.get('x-nozzle-manifest') ?? ''
  const digested = format === 'json' ? invoiceMember(content) : content
  if (createHash('sha256').update(digested).digest('hex') !== readDigest(manifest)) {
    throw new CliError('unexpected', 'the export does not match its manifest', 'Try again.')
  }
  return { content, manifest }
}

/** The text of the JSON export's second member, which its digest is of. */
function invoiceMember(content: string): string {
  const start = content.indexOf(',"invoice":') + ',"invoice":'.length
  return content.slice(start, content.lastIndexOf('}'))
}

function readDigest(manifest: string): string | null {
  try {
    return exportManifest.parse(JSON.parse(manifest)).sha256
  } catch {
    return null
  }
}

function writeFiles(file: string, content: string, manifest: string | null): void {
  try {
    writeFileSync(file, content)
    if (manifest !== null) writeFileSync(`${file}.manifest.json`, `${manifest}\n`)
  } catch (error) {
    throw toCliError(error, 'refused')
  }
}

function formatInvoice(invoice: InvoiceDetail): string {
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

export const invoiceCommands: readonly Command[] = [create, list, show, finalize, exportFile]
