/**
 * The database goes away under load, as a real server does: it hangs (SIGSTOP), dies (SIGKILL) and
 * flaps. NOZZLE_OUTAGE_SECONDS is the length of the hang; 880 makes it the 15 minutes that known
 * keys outlive it, less a margin. NOZZLE_BACKLOG_EVENTS is what a host has to ship after another.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openDatabase } from '../../db/client.ts'
import { ledgerTotals } from '../../db/queries/usage-totals.ts'
import { FailingPostgres } from '../../db/test/support/failing-postgres.ts'
import { findPostgres } from '../../db/test/support/postgres-server.ts'
import { CURSOR_START, readSettled } from '../../gpu-host/journal/settled-reader.ts'
import { type AuditFacts, audit, isDrained } from './audit.ts'
import { journalBacklog } from './backlog.ts'
import { readChargesAt } from './charges.ts'
import { Cluster } from './cluster.ts'
import { OutageLoad, type Refusal } from './outage-load.ts'

const BINARIES = findPostgres()
const CLIENTS = 6
const NEWCOMERS = 60
const HANG_MS = Number(process.env.NOZZLE_OUTAGE_SECONDS ?? 12) * 1000
const DEAD_MS = 6000
const FLAP_MS = 5000
const FLAPS = 2
const BACKLOG_EVENTS = Number(process.env.NOZZLE_BACKLOG_EVENTS ?? 3000)
const PAUSE_MS = 20
const CALM_MS = 2000
const DRAIN_MS_MAX = 120_000
const DRAIN_POLL_MS = 500

let server: FailingPostgres
let cluster: Cluster
beforeAll(async () => {
  if (BINARIES === null) return
  server = await FailingPostgres.start(BINARIES)
  cluster = await Cluster.start(server.url, CLIENTS)
}, 120_000)
afterAll(async () => {
  await cluster?.stop()
  await server?.stop()
}, 60_000)

/** Runs `away` while the database cannot answer; returns when that was. */
type Window = { readonly startMs: number; readonly endMs: number }
async function during(away: () => Promise<void>): Promise<Window> {
  const startMs = performance.now()
  await away()
  return { startMs, endMs: performance.now() }
}

const health = async () => {
  const response = await fetch(`${cluster.url}/healthz`)
  return { status: response.status, body: await response.json() }
}

/** What was asked and answered while the database could not have said anything. */
function within(refusals: readonly Refusal[], windows: readonly Window[]): Refusal[] {
  return refusals.filter(({ startMs, endMs }) =>
    windows.some((window) => startMs > window.startMs && endMs < window.endMs),
  )
}

async function facts(load: OutageLoad): Promise<AuditFacts> {
  return {
    settled: cluster.journals.flatMap((directory) => [
      ...readSettled(directory, CURSOR_START, Number.MAX_SAFE_INTEGER).events,
    ]),
    charges: await readChargesAt(server.url, cluster.tenant.id),
    deliveries: load.deliveries,
    handedOver: () => null,
    victimOf: () => 'database',
  }
}

/** Nobody does anything but look; returns what was seen last when it takes too long. */
async function pollUntil<T>(look: () => Promise<T>, isEnough: (seen: T) => boolean): Promise<T> {
  const deadline = performance.now() + DRAIN_MS_MAX
  for (;;) {
    const seen = await look()
    if (isEnough(seen) || performance.now() > deadline) return seen
    await sleep(DRAIN_POLL_MS)
  }
}

function summary({ deliveries, refusals }: OutageLoad): string {
  const count = (of: readonly { readonly status: number | null }[]) =>
    Object.fromEntries(
      [...Map.groupBy(of, ({ status }) => status)].map(([s, all]) => [s, all.length]),
    )
  return JSON.stringify({ known: count(deliveries), unknown: count(refusals) })
}

async function assertServed(load: OutageLoad, windows: readonly Window[]): Promise<void> {
  const served = load.deliveries.filter(({ status, isWhole }) => status === 200 && isWhole)
  const failed = load.deliveries.filter((delivery) => !served.includes(delivery))
  expect(served.length, JSON.stringify(failed)).toBeGreaterThanOrEqual(
    load.deliveries.length * 0.999,
  )
  expect(served.length).toBeGreaterThan(100)
  expect(load.refusals.filter(({ isStranger, status }) => isStranger && status < 400)).toEqual([])
  const blind = within(load.refusals, windows)
  expect(blind.length).toBeGreaterThan(10)
  for (const refusal of blind) {
    expect(refusal).toMatchObject({
      status: 503,
      code: 'database_unavailable',
      hasRetryAfter: true,
    })
  }
  // 401 only where the database can have said so.
  for (const { isStranger, status } of load.refusals) {
    expect(isStranger ? [401, 503] : [200, 503]).toContain(status)
  }
  const seen = await pollUntil(() => facts(load), isDrained)
  expect(audit(seen)).toMatchObject({ lost: 0, double: 0, overruns: 0, findings: [] })
  const charged = new Map(seen.charges.map((charge) => [charge.request_id, charge]))
  for (const { requestId, tokens, toldTokens } of served) {
    const told = { completion_tokens: tokens, net_pusd: charged.get(requestId ?? '')?.worth_pusd }
    expect(charged.get(requestId ?? '')).toMatchObject(told)
    expect(toldTokens).toBe(tokens)
  }
}

describe.skipIf(BINARIES === null)('an outage of the database under load', () => {
  it('that hangs, and then dies, costs known keys nothing', { timeout: 2_000_000 }, async () => {
    const load = new OutageLoad(cluster, {
      known: cluster.tenant.keys,
      newcomers: await cluster.addKeys(NEWCOMERS),
      // A long one need not be a heavy one.
      pauseMs: HANG_MS > 60_000 ? 10 * PAUSE_MS : PAUSE_MS,
    })
    await sleep(CALM_MS)
    server.hang()
    const hung = await during(async () => {
      await sleep(HANG_MS)
      expect(await health()).toMatchObject({ status: 200, body: { status: 'degraded' } })
      const metrics = await (await fetch(`${cluster.url}/metrics`)).text()
      expect(metrics).toContain('nozzle_edge_database_up 0')
      await expect(cluster.addKeys(1)).rejects.toThrow('503')
    })
    server.wake()
    await sleep(CALM_MS)
    await server.kill()
    const dead = await during(() => sleep(DEAD_MS))
    await server.restart()
    await sleep(CALM_MS)
    await load.stop()
    if (process.env.NOZZLE_OUTAGE_SECONDS) process.stdout.write(`${summary(load)}\n`)
    await assertServed(load, [hung, dead])
    expect(await health()).toMatchObject({ status: 200, body: { status: 'ok' } })
    const newcomers = load.refusals.filter(({ isStranger }) => !isStranger)
    expect(newcomers.some(({ status }) => status === 200)).toBe(true)
  })

  it('that comes and goes every 5 s costs them nothing either', { timeout: 120_000 }, async () => {
    const load = new OutageLoad(cluster, {
      known: cluster.tenant.keys,
      newcomers: [],
      pauseMs: PAUSE_MS,
    })
    const windows: Window[] = []
    for (let i = 0; i < FLAPS; i++) {
      await sleep(FLAP_MS)
      server.hang()
      windows.push(await during(() => sleep(FLAP_MS)))
      server.wake()
    }
    await load.stop()
    await assertServed(load, windows)
  })

  it('leaves a backlog that drains by itself', { timeout: 600_000 }, async () => {
    const [host] = cluster.hosts
    const [journal = ''] = cluster.journals
    const tenantId = 'ten_backlog'
    await host?.kill()
    journalBacklog(journal, tenantId, BACKLOG_EVENTS)
    await server.kill()
    await host?.start()
    await sleep(CALM_MS)
    await server.restart()
    const startMs = performance.now()
    const database = await openDatabase(server.url)
    const totals = await pollUntil(
      () => ledgerTotals(database.db, { tenantId }),
      ({ requests }) => requests >= BACKLOG_EVENTS,
    )
    const seconds = (performance.now() - startMs) / 1000
    await database.close()
    // 60 prompt tokens, 40 cached ones and 25 of completion, at the default price.
    const eachPusd = 60n * 100_000n + 40n * 50_000n + 25n * 400_000n
    expect(totals).toEqual({
      requests: BACKLOG_EVENTS,
      amountPusd: BigInt(BACKLOG_EVENTS) * eachPusd,
    })
    if (process.env.NOZZLE_BACKLOG_EVENTS) {
      process.stdout.write(`${BACKLOG_EVENTS} events drained in ${seconds.toFixed(1)} s\n`)
    }
  })
})
