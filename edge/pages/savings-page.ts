/** What the pool spared this month, for the operator, and what that rests on. */
import { html } from 'hono/html'
import { PUSD_PER_CENT, roundToCent } from '#db/money.ts'
import { type Content, facts, integer, moment, table } from './html.ts'
import type { Visit } from './visit.ts'
import { poolSavings, type SavingsRow } from './wire.ts'

const ROWS_MAX = 100

export async function showSavingsPage({ api, nowMs, show }: Visit): Promise<Response> {
  const now = new Date(nowMs)
  const wish = new URLSearchParams({
    start: new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth())).toISOString(),
    end: now.toISOString(),
  })
  const report = await api.get(`/v1/pool/savings?${wish}`, poolSavings)
  const { totals } = report
  const dearest = [...report.data].sort((a, b) => Number(b.pool_pusd - a.pool_pusd))
  return show({
    title: 'Savings',
    content: html`${facts([
      { name: 'From', value: moment(report.start) },
      { name: 'To', value: moment(report.end) },
      { name: 'This pool', value: cents(totals.pool_pusd) },
      { name: 'A machine per model', value: cents(totals.dedicated_pusd) },
      { name: 'Spared', value: percent(totals.saved_percent_vs_dedicated) },
      { name: 'Machines that sleep', value: cents(totals.scale_to_zero_pusd) },
      { name: 'Spared against those', value: percent(totals.saved_percent_vs_scale_to_zero) },
    ])}
<p class="help">Assumed: ${report.hosts} host(s) on all the time; $${report.gpu_usd_per_hour}
an hour for a machine, in the pool or outside; $${report.storage_usd_per_gib_month} per GiB and
month of adapters; machines that sleep take ${report.cold_start_s} s to start and stay
${report.keep_warm_s} s after the last request. Every idle hour of the pool's hosts is in its bill.
<code>nozzle savings</code> takes other figures.</p>
${table({
  caption:
    dearest.length > ROWS_MAX ? `The ${ROWS_MAX} dearest models of ${dearest.length}` : 'Models',
  columns: [
    { head: 'Model' },
    ...['Requests', 'In the pool', 'Own machine', 'Spared', 'Sleeping machine', 'Spared'].map(
      (head) => ({ head, isNumber: true }),
    ),
  ],
  rows: dearest
    .slice(0, ROWS_MAX)
    .map(({ tenant, model, ...row }) => [
      tenant === null ? model : `${tenant}/${model}`,
      ...figures(row),
    ]),
  empty: 'Nothing was deployed or used this month.',
})}`,
  })
}

function figures(row: SavingsRow): Content[] {
  return [
    integer(row.requests),
    cents(row.pool_pusd),
    cents(row.dedicated_pusd),
    percent(row.saved_percent_vs_dedicated),
    cents(row.scale_to_zero_pusd),
    percent(row.saved_percent_vs_scale_to_zero),
  ]
}

/** To the nearest cent: these are estimates. */
function cents(pusd: bigint): string {
  const whole = roundToCent(pusd) / PUSD_PER_CENT
  return `$${integer(String(whole / 100n))}.${String(whole % 100n).padStart(2, '0')}`
}

/** Below zero: the pool cost more. */
function percent(saved: number | null): string {
  return saved === null ? '–' : `${saved}%`
}
