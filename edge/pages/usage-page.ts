/**
 * What a tenant used and what it costs: per day as charts, which a script draws from the table that
 * is there without it, and per model.
 */
import { html } from 'hono/html'
import { type Html, integer, path, table, usd } from './html.ts'
import type { Visit } from './visit.ts'
import { costBuckets, usageBuckets, usageReport } from './wire.ts'

const DAY_S = 86_400
const PERIODS = [7, 30]
const PERIOD_DEFAULT = 30

interface Day {
  /** Unix seconds of its start. */
  readonly at: number
  readonly requests: number
  readonly inputTokens: number
  readonly outputTokens: number
  readonly costPusd: bigint
}

export async function showUsagePage(visit: Visit): Promise<Response> {
  const { c, show } = visit
  const days = PERIODS.find((count) => String(count) === c.req.query('days')) ?? PERIOD_DEFAULT
  const [byDay, byModel] = await Promise.all([readDays(visit, days), readModels(visit, days)])
  return show({
    title: 'Usage and cost',
    assets: ['uplot.css', 'uplot.js', 'charts.js'],
    content: html`${choice(days)}${charts(byDay)}${byModel}`,
  })
}

function choice(chosen: number): Html {
  const link = (days: number): Html =>
    days === chosen
      ? html`<a href="?days=${days}" aria-current="true">${days} days</a> `
      : html`<a href="?days=${days}">${days} days</a> `
  return html`<p class="choice">Last ${PERIODS.map(link)}
<span class="help">Days begin at 00:00 UTC.</span></p>`
}

/** The first day of those that end with today. */
function firstDay({ nowMs }: Visit, days: number): number {
  return (Math.floor(nowMs / 1000 / DAY_S) - (days - 1)) * DAY_S
}

async function readDays(visit: Visit, days: number): Promise<Day[]> {
  const wish = new URLSearchParams({
    start_time: String(firstDay(visit, days)),
    bucket_width: '1d',
    limit: String(days),
    project_ids: visit.tenantName,
  })
  const [usage, costs] = await Promise.all([
    visit.api.get(`/v1/organization/usage/completions?${wish}`, usageBuckets),
    visit.api.get(`/v1/organization/costs?${wish}`, costBuckets),
  ])
  return usage.data.map(({ start_time: at, results }, i) => ({
    at,
    requests: results.reduce((sum, row) => sum + row.num_model_requests, 0),
    inputTokens: results.reduce((sum, row) => sum + row.input_tokens, 0),
    outputTokens: results.reduce((sum, row) => sum + row.output_tokens, 0),
    costPusd: (costs.data[i]?.results ?? []).reduce((sum, row) => sum + row.amount.x_pusd, 0n),
  }))
}

/** `data-plot` names the columns of a chart, `data-value` is what it draws. */
function charts(days: readonly Day[]): Html {
  const cell = (value: number, text: string): Html =>
    html`<td class="number" data-value="${value}">${text}</td>`
  return html`<div class="charts" data-table="per-day">
<div data-plot="1" data-title="Requests"></div>
<div data-plot="2,3" data-title="Tokens"></div>
<div data-plot="4" data-title="Cost (USD)"></div>
</div>
<details><summary>Per day, as a table</summary>
<div class="scroll" role="region" tabindex="0" aria-label="Usage per day">
<table id="per-day">
<caption>Usage per day</caption>
<thead><tr><th scope="col">Day</th><th scope="col" class="number">Requests</th>
<th scope="col" class="number">Input tokens</th><th scope="col" class="number">Output tokens</th>
<th scope="col" class="number">Cost (USD)</th></tr></thead>
<tbody>${days.map(
    (day) => html`<tr>
<th scope="row" data-value="${day.at}">${new Date(day.at * 1000).toISOString().slice(0, 10)}</th>
${cell(day.requests, integer(day.requests))}${cell(day.inputTokens, integer(day.inputTokens))}
${cell(day.outputTokens, integer(day.outputTokens))}
${cell(Number(day.costPusd) / 1e12, usd(day.costPusd))}</tr>`,
  )}</tbody></table></div></details>`
}

async function readModels(visit: Visit, days: number): Promise<Html> {
  const start = firstDay(visit, days)
  const route = path('v1', 'tenants', visit.tenantName, 'usage')
  const { data, totals } = await visit.api.get(`${route}?start=${start}`, usageReport)
  const row = (name: string, sums: typeof totals) => [
    name,
    integer(sums.requests),
    integer(sums.prompt_tokens),
    integer(sums.cached_prompt_tokens),
    integer(sums.completion_tokens),
    usd(sums.cost_pusd),
  ]
  return html`<section><h2>Per model</h2>${table({
    caption: 'Usage per model',
    columns: [
      { head: 'Model' },
      ...['Requests', 'Input tokens', 'of them cached', 'Output tokens', 'Cost'].map((head) => ({
        head,
        isNumber: true,
      })),
    ],
    rows:
      data.length === 0 ? [] : [...data.map((sums) => row(sums.model, sums)), row('All', totals)],
    empty: 'No request was charged in this period.',
  })}</section>`
}
