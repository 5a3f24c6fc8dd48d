/**
 * How long first tokens and swaps took, for the operator: histograms of what hosts measured, drawn
 * as a picture that needs no script, and the queue as it is now.
 */
import { html } from 'hono/html'
import { facts, type Html, integer, table } from './html.ts'
import type { Visit } from './visit.ts'
import { hostList, type PoolLatency, poolLatency } from './wire.ts'

const HOUR_MS = 3_600_000
const PERIODS = [1, 24, 168]
const PERIOD_DEFAULT = 24

const KINDS = {
  ttft: {
    title: 'Time to first token',
    help: 'From a host’s admission to the first token, by where the adapter was found.',
  },
  swap: {
    title: 'Swap time',
    help: 'Of loads into a slot, by where the adapter came from. One request a load carries it.',
  },
} as const

const SOURCES = {
  none: 'base model, no adapter',
  slot: 'in a slot',
  ram: 'from RAM',
  disk: 'from disk',
  store: 'from the store',
} as const

export async function showLatencyPage({ c, api, nowMs, show }: Visit): Promise<Response> {
  const hours = PERIODS.find((count) => String(count) === c.req.query('hours')) ?? PERIOD_DEFAULT
  const wish = new URLSearchParams({
    start: new Date(nowMs - hours * HOUR_MS).toISOString(),
    end: new Date(nowMs).toISOString(),
  })
  const [latency, hosts] = await Promise.all([
    api.get(`/v1/pool/latency?${wish}`, poolLatency),
    api.get('/v1/hosts', hostList),
  ])
  const loads = hosts.data.flatMap((host) => ('load' in host ? [host.load] : []))
  const sum = (read: (load: (typeof loads)[number]) => number): string =>
    integer(loads.reduce((all, load) => all + read(load), 0))
  return show({
    title: 'Latency',
    content: html`${facts([
      { name: 'Waiting now', value: sum((load) => load.queue_depth) },
      { name: 'Running now', value: sum((load) => load.sequences_running) },
      {
        name: 'Longest wait now',
        value: `${integer(Math.max(0, ...loads.map((l) => l.wait_ms)))} ms`,
      },
    ])}
<p class="choice">Last ${PERIODS.map((count) => periodLink(count, hours))}</p>
${(['ttft', 'swap'] as const).map((kind) => section(kind, latency))}`,
  })
}

function periodLink(hours: number, chosen: number): Html {
  const name = hours < 48 ? `${hours} h` : `${hours / 24} days`
  return hours === chosen
    ? html`<a href="?hours=${hours}" aria-current="true">${name}</a> `
    : html`<a href="?hours=${hours}">${name}</a> `
}

function section(kind: keyof typeof KINDS, { bounds_us: bounds, data }: PoolLatency): Html {
  const { title, help } = KINDS[kind]
  const found = data.filter((row) => row.kind === kind)
  const all = found.reduce<number[]>(
    (sums, { counts }) => counts.map((count, i) => count + (sums[i] ?? 0)),
    [],
  )
  const labels = [
    ...bounds.map((bound) => `< ${duration(bound)}`),
    `≥ ${duration(bounds.at(-1) ?? 0)}`,
  ]
  return html`<section><h2>${title}</h2><p class="help">${help}</p>
${all.length === 0 ? null : bars(title, labels, all)}
${table({
  caption: `${title}: requests by time`,
  columns: [
    { head: 'Time' },
    ...found.map(({ adapter_source }) => ({ head: SOURCES[adapter_source], isNumber: true })),
  ],
  rows:
    found.length === 0
      ? []
      : labels.map((label, i) => [label, ...found.map((row) => row.counts[i] ?? 0)]),
  empty: 'Nothing was measured in this period.',
})}</section>`
}

const ROW = 20
const LABEL = 90
const WIDTH = 480

/** All sources together; the table below tells them apart. */
function bars(title: string, labels: readonly string[], counts: readonly number[]): Html {
  const most = Math.max(1, ...counts)
  const used = counts.reduce((last, count, i) => (count > 0 ? i : last), 0)
  const rows = counts.slice(0, used + 1)
  return html`<svg class="bars" role="img" aria-label="${title}, drawn from the table below"
  viewBox="0 0 ${LABEL + WIDTH + 60} ${rows.length * ROW}">${rows.map((count, i) => {
    const width = Math.round((count / most) * WIDTH)
    const y = i * ROW + 14
    return html`<text x="${LABEL - 8}" y="${y}" text-anchor="end">${labels[i] ?? ''}</text>
<rect x="${LABEL}" y="${i * ROW + 2}" width="${width}" height="${ROW - 4}"></rect>
<text x="${LABEL + width + 6}" y="${y}">${count}</text>`
  })}</svg>`
}

/** `2.5 ms`, `10 s`. */
function duration(us: number): string {
  return us < 1_000_000 ? `${us / 1000} ms` : `${us / 1_000_000} s`
}
