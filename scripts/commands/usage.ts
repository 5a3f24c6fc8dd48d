/** `nozzle usage`: tokens and cost per model, from the ledger. */
import { formatUsd } from '#db/money.ts'
import { callEdge, toPath } from '../lib/api-client.ts'
import type { Command } from '../lib/command.ts'
import { usageReport } from '../lib/edge-replies.ts'
import { EDGE_FLAGS, locateEdge, resolveTenant, TENANT_FLAG } from '../lib/edge-target.ts'
import { formatTable } from '../lib/output.ts'
import { toUtcTime } from '../lib/utc-time.ts'

export const usageCommand: Command = {
  name: 'usage',
  summary: 'tokens and cost per model',
  positionals: [],
  flags: {
    ...TENANT_FLAG,
    start: { type: 'string', value: 'time', help: 'from (UTC date or ISO 8601 time), included' },
    end: { type: 'string', value: 'time', help: 'to (UTC date or ISO 8601 time), excluded' },
    model: { type: 'string', value: 'name', help: 'this model alone' },
    ...EDGE_FLAGS,
  },
  details: 'Cost is exact: integer pico-USD in --json, decimal USD in the table.',
  examples: ['nozzle usage', 'nozzle usage --tenant acme --start 2026-11-01 --end 2026-12-01'],
  async run(call) {
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
    const rows = [...report.data, { ...report.totals, model: 'total' }].map((row) => [
      row.model,
      row.requests,
      row.prompt_tokens,
      row.cached_prompt_tokens,
      row.completion_tokens,
      formatUsd(BigInt(row.cost_pusd)).padStart(12),
    ])
    const columns = ['MODEL', 'REQUESTS', 'PROMPT', 'CACHED', 'COMPLETION', '    COST USD']
    call.output.data(report, formatTable(columns, report.data.length > 0 ? rows : []))
  },
}
