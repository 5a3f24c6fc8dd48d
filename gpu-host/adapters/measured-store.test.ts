import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { createMetrics, type HostMetrics } from '../telemetry/metrics.ts'
import { VirtualClock } from '../test/support/virtual-clock.ts'
import { openStore } from './open-store.ts'
import type { AdapterStore } from './store-tier.ts'

const digest = `sha256:${'a'.repeat(64)}`
const { signal } = new AbortController()

let directory: string
let metrics: HostMetrics
let clock: VirtualClock
let store: AdapterStore

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'nozzle-store-'))
  metrics = createMetrics({ withProcess: false })
  clock = new VirtualClock()
  const address = { kind: 'directory', directory: join(directory, 'store') } as const
  ;({ store } = openStore(address, { clock, log: () => {}, fetch, metrics }))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

async function sample(series: string): Promise<number> {
  const lines = (await metrics.registry.metrics()).split('\n')
  return Number(lines.find((line) => line.startsWith(`${series} `))?.split(' ')[1])
}
const fetches = (outcome: string) => sample(`nozzle_store_fetches_total{outcome="${outcome}"}`)

it('counts what a store has, lacks, fails to give and gives in part', async () => {
  expect(await store.get(digest, signal)).toBeNull()
  writeFileSync(join(directory, 'pack'), 'x'.repeat(3_000_000))
  await store.put(digest, join(directory, 'pack'))
  const read = async () => (await store.get(digest, signal)) ?? []
  for await (const chunk of await read()) expect(chunk.byteLength).toBeGreaterThan(0)
  expect(await sample('nozzle_store_fetched_bytes_total')).toBe(3_000_000)
  for await (const _ of await read()) break
  expect(await Promise.all(['found', 'missing', 'abandoned'].map(fetches))).toEqual([1, 1, 1])
  expect(await sample('nozzle_store_fetch_seconds_count')).toBe(1)
})

it('says that the store is away, until it answers again', async () => {
  const breaker = () => sample('nozzle_store_breaker_open')
  expect(await breaker()).toBe(0)
  writeFileSync(join(directory, 'store'), 'a file where a directory should be')
  for (const _ of Array(2)) {
    await expect(store.get(digest, signal)).rejects.toMatchObject({ code: 'store_unavailable' })
  }
  expect([await breaker(), await fetches('failed')]).toEqual([1, 2])
  rmSync(join(directory, 'store'))
  await clock.advance(60_000)
  expect(await store.get(digest, signal)).toBeNull()
  expect(await breaker()).toBe(0)
})
