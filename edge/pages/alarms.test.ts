import { describe, expect, it } from 'vitest'
import { findAlarms, type PoolState } from './alarms.ts'
import { hostList } from './wire.ts'

const NOW_MS = Date.UTC(2026, 10, 1)

function host(name: string, change: object = {}, load: object = {}): object {
  return {
    ...{ host_id: `hst_${name}`, host_name: name, wish: 'serve', status: 'ready' },
    last_seen_at: new Date(NOW_MS - 1000).toISOString(),
    ...{ base_model: 'base', engine: 'native', uptime_ms: 1 },
    load: {
      ...{ sequences_running: 1, sequences_max: 8, queue_depth: 0, queue_depth_max: 10 },
      ...{ slots: 8, slots_in_use: 1, kv_tokens_max: 0, kv_tokens_free: 0, wait_ms: 0 },
      ...load,
    },
    adapters: { slot: 1, ram: 0, disk: 0 },
    ...change,
  }
}

function alarmsOf(hosts: readonly object[], change: Partial<PoolState> = {}): string[] {
  const state: PoolState = {
    hosts: hostList.parse({ data: hosts }).data,
    health: { status: 'ok', hosts_ready: 1 },
    lag: { rollup_s: null, usage_s: 0.5, dead_letters: 0 },
    nowMs: NOW_MS,
    ...change,
  }
  return findAlarms(state).map(({ level, text }) => `${level}: ${text}`)
}

describe('findAlarms', () => {
  it('has none for a pool that is well', () => {
    expect(alarmsOf([host('a'), { ...host('b'), status: 'draining', wish: 'drain' }])).toEqual([])
  })

  it('names hosts that are away, and not those that were drained and are gone', () => {
    const seenAt = new Date(NOW_MS - 90_000).toISOString()
    const gone = { host_id: 'hst_old', wish: 'drain', last_seen_at: null, status: 'gone' }
    expect(alarmsOf([host('a', { status: 'silent', last_seen_at: seenAt }), gone])).toEqual([
      'bad: a is away: nothing was heard of it for 90 s.',
    ])
  })

  it('warns of a queue from four fifths of its places on, after what is worse', () => {
    expect(alarmsOf([host('a', {}, { queue_depth: 7 })])).toEqual([])
    const health = { status: 'degraded', hosts_ready: 0, database_away_s: 12 } as const
    expect(alarmsOf([host('a', {}, { queue_depth: 8 })], { health })).toEqual([
      'bad: The database has not answered for 12 s.',
      'bad: No host is ready.',
      'warn: a has 8 requests waiting, of 10 at most.',
    ])
  })

  it('says when the books are behind', () => {
    const lag = { rollup_s: 301, usage_s: 75.4, dead_letters: 2 }
    expect(alarmsOf([host('a')], { lag })).toEqual([
      'bad: Usage is not rolled up: the oldest charge waits for 301 s.',
      'warn: Usage of the last hour came late: up to 75 s after a request had ended.',
      'warn: 2 CloudEvents were refused by their receiver and given up.',
    ])
    expect(alarmsOf([host('a')], { lag: { rollup_s: 120, usage_s: 60, dead_letters: 0 } })).toEqual(
      [],
    )
  })
})
