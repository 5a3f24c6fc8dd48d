/**
 * The dashboard and the alert rules ask for what a real edge and a real host export: every metric,
 * every label, and every label's value. And what those export follows the conventions.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse as parseYaml } from 'yaml'
import { z } from 'zod'
import { HOST_ERRORS } from '../../gpu-host/errors.ts'
import { EDGE_ERRORS } from '../errors.ts'
import { parseQuery, type Query } from './support/promql.ts'
import { Scrape } from './support/scrape.ts'
import { TestPool, until } from './support/test-pool.ts'

const DOCS = join(import.meta.dirname, '..', '..', 'docs', 'observability')
const readDoc = (name: string): string => readFileSync(join(DOCS, name), 'utf8')

const alertRule = z.strictObject({
  alert: z.string().regex(/^Nozzle[A-Za-z]+$/),
  expr: z.string(),
  for: z
    .string()
    .regex(/^\d+[smh]$/)
    .optional(),
  labels: z.strictObject({ severity: z.enum(['page', 'ticket']) }),
  annotations: z.strictObject({ summary: z.string(), description: z.string() }),
})
const alertRules = z.strictObject({
  groups: z.array(z.strictObject({ name: z.string(), rules: z.array(alertRule).min(1) })),
})
const panel = z.object({
  id: z.int(),
  type: z.enum(['row', 'timeseries', 'stat', 'heatmap']),
  title: z.string().min(1),
  description: z.string().optional(),
  gridPos: z.object({ h: z.int(), w: z.int(), x: z.int(), y: z.int() }),
  targets: z.array(z.object({ expr: z.string(), legendFormat: z.string() })).default([]),
})
const dashboard = z.object({
  uid: z.string(),
  schemaVersion: z.int(),
  panels: z.array(panel),
  templating: z.object({ list: z.array(z.object({ name: z.string() })) }),
})

const rules = alertRules
  .parse(parseYaml(readDoc('alerts.yml')))
  .groups.flatMap((group) => group.rules)
const board = dashboard.parse(JSON.parse(readDoc('grafana-nozzle.json')))
const targets = board.panels.flatMap(({ title, targets: asked }) =>
  asked.map((target) => ({ title, ...target })),
)

/** Given by Prometheus to all that it scrapes. */
const OF_TARGETS = ['job', 'instance']
/** What Prometheus itself makes. */
const OF_PROMETHEUS = new Map([['up', OF_TARGETS]])
const CODES = [...Object.keys(EDGE_ERRORS), ...Object.keys(HOST_ERRORS)]
/** Values that a series has only once that has happened. */
const RARE_VALUES: Readonly<Record<string, readonly string[]>> = {
  'nozzle_edge_requests_total status': ['503'],
  'nozzle_edge_host_retries_total outcome': ['made', 'no_budget'],
  'nozzle_edge_voids_total outcome': ['stored', 'lost'],
  'nozzle_edge_cloud_events_total outcome': ['sent', 'dead', 'failed_batch'],
  'nozzle_edge_job_runs_total outcome': ['done', 'failed'],
  'nozzle_swap_seconds source': ['ram', 'disk', 'store'],
}

let pool: TestPool
let edge: Scrape
let host: Scrape

/** Traffic of each kind, so that there are series to look at. */
beforeAll(async () => {
  pool = await TestPool.start()
  const { host: added } = await pool.addHost()
  const tenant = await pool.addTenant()
  await pool.deploy(tenant, 'support', 'weights')
  const ask = (fields: object) =>
    pool.call('POST', '/v1/chat/completions', tenant.key, {
      model: 'support',
      messages: [{ role: 'user', content: 'hello' }],
      max_tokens: 3,
      ...fields,
    })
  for (const fields of [{}, { stream: true }]) await (await ask(fields)).text()
  expect((await ask({ model: 'nobody/knows' })).status).toBe(404)
  await fetch(`${added.url}/nowhere`)
  await until(() => expect(added.outbox.countUnshipped()).toBe(0))
  const scrape = async (url: string) => (await fetch(`${url}/metrics`)).text()
  const state = { hostsReady: 0, isDatabaseUp: true, clockOffsetMs: null }
  edge = new Scrape(await scrape(pool.url), pool.deps.metrics.families(state))
  host = new Scrape(await scrape(added.url), added.metrics.registry.getMetricsAsArray())
})

afterAll(() => pool.stop())

/** Labels that the metric may have; null = nobody exports it. */
function labelsOf(metric: string): readonly string[] | null {
  const own = edge.labelsOf(metric) ?? host.labelsOf(metric)
  return own === null ? (OF_PROMETHEUS.get(metric) ?? null) : [...own, ...OF_TARGETS]
}

function valuesOf(metric: string, label: string): readonly string[] {
  const family = metric.replace(/_(bucket|sum|count)$/, '')
  if (label === 'code') return CODES
  return [
    ...edge.valuesOf(metric, label),
    ...host.valuesOf(metric, label),
    ...(RARE_VALUES[`${family} ${label}`] ?? []),
  ]
}

function faultsOf({ selectors, groupings }: Query): string[] {
  const known = new Set(selectors.flatMap(({ metric }) => labelsOf(metric) ?? []))
  return [
    ...groupings.filter((label) => !known.has(label)).map((label) => `by ${label}`),
    ...selectors.flatMap(({ metric, matchers }) => {
      const labels = labelsOf(metric)
      if (labels === null) return [`no metric ${metric}`]
      return matchers.flatMap(({ label, op, value }) => {
        if (!labels.includes(label)) return [`${metric} has no label ${label}`]
        if (OF_TARGETS.includes(label)) return []
        const values = valuesOf(metric, label)
        const isPattern = op.includes('~') && !/^[\w|]+$/.test(value)
        const wanted = isPattern ? [value] : value.split('|')
        return wanted
          .filter((one) => !values.some((other) => new RegExp(`^(?:${one})$`).test(other)))
          .map((one) => `${metric} has no ${label} ${one}`)
      })
    }),
  ]
}

const mentionedIn = (text: string, pattern: RegExp): string[] =>
  [...text.matchAll(pattern)].map(([, name = '']) => name)

describe('the alert rules', () => {
  it.each(rules.map((rule) => [rule.alert, rule] as const))(
    '%s asks for what there is',
    (_, rule) => {
      const query = parseQuery(rule.expr)
      expect(faultsOf(query)).toEqual([])
      const { summary, description } = rule.annotations
      const labels = query.selectors.flatMap(({ metric }) => labelsOf(metric) ?? [])
      for (const label of mentionedIn(summary + description, /\$labels\.(\w+)/g)) {
        expect(labels).toContain(label)
      }
      for (const metric of mentionedIn(description, /\b(nozzle_\w+)/g)) {
        expect(
          [edge, host].some(({ families }) => families.some(({ name }) => name === metric)),
          metric,
        ).toBe(true)
      }
    },
  )

  it('have names of their own', () => {
    expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length)
  })
})

describe('the dashboard', () => {
  it.each(targets.map((target) => [target.title, target] as const))(
    '%s asks for what there is',
    (_, target) => {
      const query = parseQuery(target.expr)
      expect(faultsOf(query)).toEqual([])
      const labels = query.selectors.flatMap(({ metric }) => labelsOf(metric) ?? [])
      for (const label of mentionedIn(target.legendFormat, /\{\{(\w+)\}\}/g)) {
        expect(labels).toContain(label)
      }
      const variables = board.templating.list.map(({ name }) => name)
      for (const name of mentionedIn(target.expr, /\$(\w+)/g)) {
        expect([...variables, '__rate_interval']).toContain(name)
      }
    },
  )

  it('explains each panel, and lays none over another', () => {
    const ids = board.panels.map(({ id }) => id)
    expect(new Set(ids).size).toBe(ids.length)
    const cells = new Set<string>()
    for (const { type, title, description, gridPos, targets: asked } of board.panels) {
      if (type !== 'row')
        expect([asked.length > 0, description], title).toEqual([true, expect.any(String)])
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect(cells, title).not.toContain(`${x} ${y}`)
          expect(x, title).toBeLessThan(24)
          cells.add(`${x} ${y}`)
        }
      }
    }
  })
})

/** Closed sets all; none names a tenant, a key, a model, an adapter, a host or a request. */
const LABELS = ['route', 'status', 'code', 'outcome', 'reason', 'from', 'to', 'kind', 'state']
const MORE_LABELS = ['source', 'tier', 'task', 'version', 'engine']
/** Counts of things that come in buckets, which have no unit. */
const UNITLESS = ['nozzle_step_rows', 'nozzle_step_distinct_slots']

describe.each([
  ['an edge', () => edge],
  ['a host', () => host],
])('what %s exports', (_, scrape) => {
  it('says what it is, in words and by its name', () => {
    for (const { name, help, type } of scrape().families) {
      expect(name).toMatch(/^nozzle_[a-z_]+$/)
      expect(help.length, name).toBeGreaterThan(5)
      expect(help, name).toMatch(/^\w.*[^.]$/)
      expect(name.endsWith('_total'), name).toBe(type === 'counter')
      if (type === 'histogram' && !UNITLESS.includes(name)) expect(name).toMatch(/_seconds$/)
      expect(name, 'base units').not.toMatch(/_(ms|us|milliseconds|minutes|kb|mb|percent)(_|$)/)
    }
  })

  it('has no label whose values have no bound', () => {
    for (const { name, labelNames } of scrape().families) {
      for (const label of labelNames) {
        expect([...LABELS, ...MORE_LABELS], name).toContain(label)
      }
    }
  })
})

it('serves each kind of number', () => {
  expect(edge.valuesOf('nozzle_edge_hosts', 'state')).toEqual([
    'ready',
    'doubted',
    'ejected',
    'draining',
  ])
  expect(edge.value('nozzle_edge_hosts{state="ready"}')).toBe(1)
  expect(edge.value('nozzle_edge_refusals_total{code="model_not_found"}')).toBe(1)
  expect(edge.valuesOf('nozzle_edge_ttft_seconds_count', 'source')).not.toEqual([])
  expect(edge.value('nozzle_edge_usage_delay_seconds_count')).toBe(2)
  expect(host.value('nozzle_refusals_total{code="not_found"}')).toBe(1)
  expect(host.value('nozzle_fairness_index')).toBe(1)
  expect(host.value('nozzle_serving')).toBe(1)
  expect(host.value('nozzle_usage_lag_seconds')).toBe(0)
})
