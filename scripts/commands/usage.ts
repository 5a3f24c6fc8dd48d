/** `nozzle usage`: tokens and cost per model, from the ledger. */
import { formatCsv } from '#db/csv.ts'
import { formatUsd } from '#db/money.ts'
import { callEdge, toPath } from '../lib/api-client.ts'
import type { Flags } from '../lib/argv.ts'
import { CliError } from '../lib/cli-error.ts'
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
    by: { type: 'string', value: 'model|version', help: 'a row a model, or one a version of it' },
    format: formatFlag(FORMATS),
    ...EDGE_FLAGS,
  },
  details: 'Cost is exact: integer pico-USD in JSON, decimal USD in the table, both in CSV.',
  examples: [
    'nozzle usage',
    'nozzle usage --model ticket-triage --by version',
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
    const isByVersion = readGrouping(call.flags) === 'version'
    if (isByVersion) query.set('by', 'version')
    const path = toPath('v1', 'tenants', await resolveTenant(call, target), 'usage')
    const request = { method: 'GET', path: `${path}?${query}`, signal: call.signal } as const
    const report = await callEdge(target, request, usageReport)
    if (format === 'csv') call.output.raw(toCsv(report, isByVersion))
    else if (format === 'json') call.output.raw(`${JSON.stringify(report)}\n`)
    else call.output.data(report, toTable(report, isByVersion))
  },
}

function readGrouping(flags: Flags): 'model' | 'version' {
  const by = flags.text('by') ?? 'model'
  if (by === 'model' || by === 'version') return by
  throw new CliError('usage', `--by must be model or version, not "${by}"`)
}

function toTable(report: UsageReport, isByVersion: boolean): string {
  const rows = [...report.data, { ...report.totals, model: 'total' }].map((row) => [
    row.model,
    ...(isByVersion ? [versionText(row)] : []),
    row.requests,
    row.prompt_tokens,
    row.cached_prompt_tokens,
    row.completion_tokens,
    formatUsd(BigInt(row.cost_pusd)).padStart(12),
  ])
  const version = isByVersion ? ['VERSION'] : []
  const columns = [
    'MODEL',
    ...version,
    'REQUESTS',
    'PROMPT',
    'CACHED',
    'COMPLETION',
    '    COST USD',
  ]
  return formatTable(columns, report.data.length > 0 ? rows : [])
}

/** Empty for a base model, which has none. */
function versionText({ version }: { readonly version?: number | null | undefined }): string {
  return version == null ? '' : String(version)
}

/** A row a model, or a version; no row of totals, which a sum over the file would count twice. */
function toCsv(report: UsageReport, isByVersion: boolean): string {
  const counts = ['requests', 'prompt_tokens', 'cached_prompt_tokens', 'completion_tokens'] as const
  const version = isByVersion ? ['version'] : []
  const columns = ['start', 'end', 'model', ...version, ...counts, 'cost_pusd', 'cost_usd']
  const rows = report.data.map((row) => [
    report.start,
    report.end,
    row.model,
    ...(isByVersion ? [versionText(row)] : []),
    ...counts.map((name) => String(row[name])),
    row.cost_pusd,
    formatUsd(BigInt(row.cost_pusd)),
  ])
  return formatCsv(columns, rows)
}
