import { beforeEach, describe, expect, it } from 'vitest'
import {
  ANSWERS_PER_HOST,
  HOLD_MS,
  HOLD_MS_MAX,
  LOSS_SEEN_MS,
  PROOF_CHUNKS,
  STRIKE_KEPT_MS,
} from '../limits.ts'
import { shardHosts, TenantShards, type VisitEnding } from './tenant-shards.ts'

const POOL = 8
let nowMs = 0
let shards: TenantShards
let held: [string, string, number][] = []
beforeEach(() => {
  nowMs = 1e6
  held = []
  shards = new TenantShards(
    () => nowMs,
    (tenantId, lostHostIds, forMs) => held.push([tenantId, lostHostIds.join(), forMs]),
  )
})

const reach = (tenantId = 'ten_1', poolHosts = POOL) => shards.reach(tenantId, poolHosts)
const enter = (hostId: string, tenantId = 'ten_1') => shards.enter(tenantId, hostId, POOL)
const visit = (hostId: string, ending: VisitEnding, tenantId = 'ten_1') =>
  enter(hostId, tenantId).leave(ending)

it('grows slowly with the pool', () => {
  expect([1, 3, 8, 31, 32, 127, 128, 1000, 10_000].map(shardHosts)).toEqual([
    2, 2, 2, 2, 3, 3, 4, 5, 7,
  ])
})

describe('requests at once', () => {
  it('keeps those that have shown nothing yet on two hosts', () => {
    enter('a')
    expect(reach()).toEqual({ kind: 'any' })
    enter('b')
    expect(reach()).toEqual({ kind: 'only', hostIds: new Set(['a', 'b']), isTrial: false })
    expect(reach('ten_2')).toEqual({ kind: 'any' })
  })

  it('lets a tenant spread with the answers that it got', () => {
    for (let i = 0; i < ANSWERS_PER_HOST; i++) visit('a', 'answered')
    enter('a')
    enter('b')
    expect(reach()).toEqual({ kind: 'any' })
    enter('c')
    expect(reach().kind).toBe('only')
  })

  it('counts a long answer that has come far as harmless', () => {
    enter('a')
    const long = enter('b')
    for (let i = 0; i < PROOF_CHUNKS - 1; i++) long.chunk()
    expect(reach().kind).toBe('only')
    long.chunk()
    expect(reach()).toEqual({ kind: 'any' })
    long.leave('answered')
    enter('b')
    expect(reach().kind).toBe('only')
  })

  it('does not wait for what still runs on hosts that drain', () => {
    enter('a')
    enter('b')
    const draining = (ids: string) => (id: string) => ids.includes(id)
    expect(shards.reach('ten_1', POOL, draining('b'))).toEqual({ kind: 'any' })
    expect(shards.reach('ten_1', POOL, draining('ab'))).toEqual({ kind: 'any' })
    enter('c')
    const left = { kind: 'only', hostIds: new Set(['a', 'c']), isTrial: false }
    expect(shards.reach('ten_1', POOL, draining('b'))).toEqual(left)
  })

  it('takes nothing from refusals, however many', () => {
    for (const id of ['a', 'b', 'c', 'd']) visit(id, 'other')
    expect(reach()).toEqual({ kind: 'any' })
  })
})

describe('lost hosts', () => {
  it('keep nobody to themselves: what has not ended there yet leaves the others open', () => {
    const [first] = [enter('a'), enter('a')]
    first?.leave('lost')
    expect(reach('ten_1', 3)).toEqual({ kind: 'any' })
    enter('b')
    expect(reach('ten_1', 3)).toEqual({ kind: 'only', hostIds: new Set(['b']), isTrial: false })
    // It is back, and its requests count again.
    nowMs += LOSS_SEEN_MS
    shards.heard('a', 2)
    expect(reach('ten_1', 3)).toMatchObject({ hostIds: new Set(['a', 'b']) })
  })

  it('narrow a tenant that had answers only from the second on', () => {
    visit('a', 'answered')
    visit('a', 'lost')
    enter('b')
    expect(reach()).toEqual({ kind: 'any' })
    enter('c')
    expect(reach()).toEqual({ kind: 'only', hostIds: new Set(['b', 'c']), isTrial: false })
    visit('b', 'lost')
    expect(reach().kind).toBe('none')
  })

  it('hold a tenant after the second, twice as long each time, up to a bound', () => {
    visit('a', 'lost')
    expect(reach()).toEqual({ kind: 'any' })
    visit('b', 'lost')
    expect(reach()).toEqual({ kind: 'none', retryAfterMs: HOLD_MS })
    let holdMs = HOLD_MS
    for (let i = 0; i < 10; i++) {
      nowMs += holdMs - 1
      expect(reach().kind).toBe('none')
      nowMs += 1
      expect(reach()).toEqual({ kind: 'only', hostIds: new Set(['a', 'b']), isTrial: true })
      const trial = enter('a')
      expect(reach().kind).toBe('none')
      trial.leave('lost')
      holdMs = Math.min(2 * holdMs, HOLD_MS_MAX)
      expect(reach()).toEqual({ kind: 'none', retryAfterMs: holdMs })
    }
    expect(holdMs).toBe(HOLD_MS_MAX)
    expect(held.slice(0, 2)).toEqual([
      ['ten_1', 'a,b', HOLD_MS],
      ['ten_1', 'a,b', 2 * HOLD_MS],
    ])
  })

  it('leave a tenant one host at a time after the first', () => {
    visit('a', 'lost')
    enter('b')
    expect(reach()).toEqual({ kind: 'only', hostIds: new Set(['b']), isTrial: false })
  })

  it('are forgiven one for each answer to a later request, none for one to an earlier', () => {
    const early = enter('c')
    visit('a', 'lost')
    early.leave('answered')
    visit('b', 'lost')
    expect(reach().kind).toBe('none')
    nowMs += HOLD_MS
    visit('b', 'answered')
    expect(reach()).toEqual({ kind: 'any' })
    visit('b', 'answered')
    visit('c', 'lost')
    expect(reach()).toEqual({ kind: 'any' })
    visit('d', 'lost')
    expect(reach()).toEqual({ kind: 'none', retryAfterMs: HOLD_MS })
  })

  it('at one moment are one where there had been answers, and each where not', () => {
    visit('c', 'answered', 'known')
    for (const tenant of ['known', 'unknown']) {
      const visits = ['a', 'a', 'b'].map((id) => enter(id, tenant))
      for (const each of visits) each.leave('lost')
    }
    expect(reach('known')).toEqual({ kind: 'any' })
    expect(reach('unknown').kind).toBe('none')
  })

  it('count for the size that the pool had with them', () => {
    shards.enter('ten_1', 'a', 3).leave('lost')
    shards.enter('ten_1', 'b', 2).leave('lost')
    expect(reach('ten_1', 1).kind).toBe('none')
  })

  it('hold nobody in a pool that has no more hosts than a tenant may break', () => {
    shards.enter('ten_1', 'a', 2).leave('lost')
    shards.enter('ten_1', 'b', 2).leave('lost')
    expect(reach('ten_1', 2)).toEqual({ kind: 'any' })
  })

  it('are no strikes when the host turns out to be the same process', () => {
    for (const id of ['a', 'b']) shards.heard(id, 7)
    visit('a', 'lost')
    visit('b', 'lost')
    nowMs += LOSS_SEEN_MS - 1
    shards.heard('a', 7)
    expect(reach().kind).toBe('none')
    nowMs += 1
    shards.heard('a', 7)
    expect(reach()).toEqual({ kind: 'any' })
  })

  it('are strikes when the host started anew', () => {
    for (const id of ['a', 'b']) shards.heard(id, 7)
    visit('a', 'lost')
    visit('b', 'lost')
    nowMs += LOSS_SEEN_MS
    shards.heard('a', 8)
    nowMs += 1000
    shards.heard('a', 8)
    expect(reach().kind).toBe('none')
  })

  it('are forgotten in time', () => {
    visit('a', 'lost')
    visit('b', 'lost')
    nowMs += STRIKE_KEPT_MS + 1
    expect(reach()).toEqual({ kind: 'any' })
  })
})
