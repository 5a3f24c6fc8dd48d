/** `nozzle usage`: tokens and cost per model, from the ledger. */
import { formatCsv } from '#db/csv.ts'
import { formatUsd } from '#db/money.ts'
import { callEdge, toPath } from '../lib/api-client.ts'
import type { Command } from '../lib/command.ts'
import { type UsageReport, usageReport } from '../lib/edge-replies.ts'
import { EDGE_FLAGS, locateEdge, resolveTenant, TENANT_FLAG } from '../lib/edge-target.ts'
import { formatTable } from '../lib/output.ts'
import { formatFlag, readFormat } from '../lib/output-format.ts'
import { refuseFuture, toUtcTime } from '../lib/utc-time.ts'

const FORMATS = ['table', 'csv', 'json'] as const

export const usageCommand: Command = {
  name: 'usage',
  summary: 'tokens and cost per model',
  positionals: [],
  flags: {
    ...TENANT_FLAG,
    start: {
      type: 'string',
      value: 'time',
      help: 'from (UTC date or ISO 8601 time; default: start of this month)',
    },
    end: { type: 'string', value: 'time', help: 'to, excluded (likewise; default: now)' },
    model: { type: 'string', value: 'name', help: 'this model alone' },
    format: formatFlag(FORMATS),
    ...EDGE_FLAGS,
  },
  details: 'Cost is exact: integer pico-USD in JSON, decimal USD in the table, both in CSV.',
  examples: [
    'nozzle usage',
    'nozzle usage --tenant acme --start 2026-11-01 --end 2026-12-01 --format csv',
  ],
  async run(call) {
    const format = readFormat(call, FORMATS)
    refuseFuture(call.flags, new Date())
    const target = locateEdge(call)
    const query = new URLSearchParams()
    for (const name of ['start', 'end'] as const) {
      const text = call.flags.text(name)
      if (text !== undefined) query.set(name, toUtcTime(name, text))
    }
    const model = call.flags.text('model')
    if (model !== undefined) query.set('model', model)
    const path = toPath('v1', 'tenants', resolveTenant(call, target), 'usage')
    const request = { method: 'GET', path: `${path}?${query}`, signal: call.signal } as const
    const report = await callEdge(target, request, usageReport)
    if (format === 'csv') call.output.raw(toCsv(report))
    else if (format === 'json') call.output.raw(`${JSON.stringify(report)}\n`)
    else call.output.data(report, toTable(report))
  },
}

function toTable(report: UsageReport): string {
  const rows = [...report.data, { ...report.totals, model: 'total' }].map((row) => [
    row.model,
    row.requests,
    row.prompt_tokens,
    row.cached_prompt_tokens,
    row.completion_tokens,
    formatUsd(BigInt(row.cost_pusd)).padStart(12),
  ])
  const columns = ['MODEL', 'REQUESTS', 'PROMPT', 'CACHED', 'COMPLETION', '    COST USD']
  return formatTable(columns, report.data.length > 0 ? rows : [])
}

/** A row a model; no row of totals, which a sum over the file would count twice. */
function toCsv(report: UsageReport): string {
  const counts = ['requests', 'prompt_tokens', 'cached_prompt_tokens', 'completion_tokens'] as const
  const columns = ['start', 'end', 'model', ...counts, 'cost_pusd', 'cost_usd']
  const rows = report.data.map((row) => [
    report.start,
    report.end,
    row.model,
    ...counts.map((name) => String(row[name])),
    row.cost_pusd,
    formatUsd(BigInt(row.cost_pusd)),
  ])
  return formatCsv(columns, rows)
}
