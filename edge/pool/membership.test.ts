import { beforeEach, describe, expect, it } from 'vitest'
import type { HostRow } from '#db/queries/hosts.ts'
import { type Heartbeat, heartbeat } from '#protocol'
import { createHeartbeat } from '../../db/test/support/records.ts'
import { HOST_CLAIM_MAX, HOST_SEEN_MS_MAX, HOST_SILENT_MS, HOSTS_MAX } from '../limits.ts'
import { Membership } from './membership.ts'

type Report = ReturnType<typeof createHeartbeat>

let nowMs = Date.UTC(2026, 0)
let newer: string[] = []
let members: Membership
beforeEach(() => {
  nowMs += 1_000_000
  newer = []
  members = new Membership(({ host_id, beat }) => newer.push(`${host_id} ${beat}`))
})

const rowOf = (report: Report, seenMs = nowMs): HostRow => ({
  id: report.host_id,
  epoch: report.epoch,
  seenAt: new Date(seenMs),
  heartbeat: report,
})
const toHeartbeat = (report: Report): Heartbeat => heartbeat.parse(report)
const beatOf = (hostId: string) => members.get(hostId)?.heartbeat.beat
const merge = (...rows: HostRow[]) => members.merge(rows, nowMs).map(({ fault }) => fault)

/** A pool as the last snapshot had it. */
function addPool(size: number): Report[] {
  const reports = Array.from({ length: size }, () => createHeartbeat())
  expect(merge(...reports.map((report) => rowOf(report)))).toEqual([])
  return reports
}

describe('of two reports of a host', () => {
  it('the one that counts higher stays, whichever arrives last and wherever', () => {
    const first = createHeartbeat({ beat: 5 })
    const late = { ...first, beat: 4, context_length: 1 }
    expect(members.take(toHeartbeat(first), nowMs, true)).toBe('taken')
    expect(members.take(toHeartbeat(late), nowMs + 10, true)).toBe('known')
    merge(rowOf(late, nowMs + 10))
    expect(beatOf(first.host_id)).toBe(5)
    expect(members.get(first.host_id)?.heartbeat.context_length).toBe(first.context_length)
    merge(rowOf({ ...first, beat: 6 }, nowMs + 10))
    expect(beatOf(first.host_id)).toBe(6)
    expect(newer).toEqual([`${first.host_id} 5`, `${first.host_id} 6`])
  })

  it('that of a newer start stays, though it counts lower', () => {
    const old = createHeartbeat({ epoch: 7, beat: 900 })
    members.take(toHeartbeat(old), nowMs, true)
    expect(members.take(toHeartbeat({ ...old, epoch: 8, beat: 1 }), nowMs, true)).toBe('taken')
    expect(members.take(toHeartbeat({ ...old, beat: 901 }), nowMs, true)).toBe('stale')
    merge(rowOf({ ...old, beat: 901 }))
    expect(beatOf(old.host_id)).toBe(1)
  })
})

describe('a bad report in a snapshot is refused, and the last good one kept', () => {
  const { load } = createHeartbeat()
  it.each<[string, object]>([
    ['more sequences than can be', { load: { ...load, sequences_max: HOST_CLAIM_MAX + 1 } }],
    ['no context', { context_length: 0 }],
    ['an absurd context', { context_length: 1e12 }],
    ['an absurd wait', { load: { ...load, wait_ms: 1e12 } }],
    ['a URL that is none', { url: 'not a url' }],
    ['a URL of another kind', { url: 'file:///etc/passwd' }],
    ['a user in the URL', { url: 'http://a:b@host' }],
    ['no base model', { base_model: '' }],
    ['no load', { load: null }],
    ['adapters that are none', { adapters: 'all' }],
    ['a status that nobody knows', { status: 'asleep' }],
  ])('%s', (_what, change) => {
    const [good, other] = addPool(2)
    if (good === undefined || other === undefined) throw new Error('no pool')
    const bad = { ...good, beat: 2, ...change } as Report
    expect(merge(rowOf(bad), rowOf({ ...other, beat: 2 }))).toEqual(['absurd'])
    expect([beatOf(good.host_id), beatOf(other.host_id)]).toEqual([1, 2])
  })

  it('an older one than the snapshot before had', () => {
    const report = createHeartbeat({ beat: 9 })
    merge(rowOf(report))
    expect(merge(rowOf({ ...report, beat: 8 }))).toEqual(['older'])
    expect(merge(rowOf({ ...report, beat: 8 }))).toEqual(['older'])
    expect(beatOf(report.host_id)).toBe(9)
    expect(merge(rowOf(report))).toEqual([])
  })

  it('of two hosts with one URL, all but the one that started last', () => {
    const [old] = addPool(1)
    if (old === undefined) throw new Error('no pool')
    const successor = createHeartbeat({ url: old.url, uptime_ms: 10 })
    expect(merge(rowOf(old), rowOf(successor))).toEqual([])
    expect(members.all().map((member) => member.heartbeat.host_id)).toEqual([successor.host_id])
    nowMs += 1000
    const late = { ...old, beat: 2, uptime_ms: old.uptime_ms + 1000 }
    expect(members.take(toHeartbeat(late), nowMs, true)).toBe('url_taken')
    expect(merge(rowOf(late), rowOf(successor))).toEqual(['url_taken'])
    // Whoever moves to a URL of its own is welcome.
    expect(members.take(toHeartbeat({ ...late, url: 'http://own:1' }), nowMs, true)).toBe('taken')
  })
})

describe('a bad snapshot is refused, and the last good one kept', () => {
  const ids = () => members.all().map((member) => member.heartbeat.host_id)

  it('an empty one', () => {
    const pool = addPool(3)
    nowMs += 1000
    expect(merge()).toEqual(['empty'])
    nowMs += HOST_SEEN_MS_MAX - 1000
    expect(merge()).toEqual(['empty'])
    expect(ids()).toEqual(pool.map(({ host_id }) => host_id))
  })

  it('one that lacks more than half, whose rest is taken', () => {
    const [a, b, c] = addPool(3)
    if (a === undefined || b === undefined || c === undefined) throw new Error('no pool')
    nowMs += 1000
    expect(merge(rowOf({ ...a, beat: 2 }))).toEqual(['halved'])
    expect(ids()).toHaveLength(3)
    expect([beatOf(a.host_id), beatOf(b.host_id)]).toEqual([2, 1])
  })

  it('one of more hosts than a pool has', () => {
    const [good] = addPool(1)
    if (good === undefined) throw new Error('no pool')
    const row = rowOf({ ...good, beat: 2 })
    expect(merge(...Array.from({ length: HOSTS_MAX + 1 }, () => row))).toEqual(['too_many'])
    expect(beatOf(good.host_id)).toBe(1)
  })
})

describe('hosts that leave', () => {
  it('one of three is no fault', () => {
    const [a, b] = addPool(3)
    if (a === undefined || b === undefined) throw new Error('no pool')
    nowMs += 1000
    expect(merge(rowOf({ ...a, beat: 2 }), rowOf({ ...b, beat: 2 }))).toEqual([])
  })

  it('all at once are believed when none was heard of for as long as that takes', () => {
    addPool(3)
    nowMs += HOST_SEEN_MS_MAX + 1
    expect(merge()).toEqual([])
  })
})

it('knows a silent host: two beats missing, one more where another edge hears it', () => {
  const [stored] = addPool(1)
  const direct = createHeartbeat()
  members.take(toHeartbeat(direct), nowMs, true)
  const silent = (report: Report | undefined, afterMs: number) => {
    const member = members.get(report?.host_id ?? '')
    return member !== undefined && members.isSilent(member, nowMs + afterMs)
  }
  expect([silent(direct, HOST_SILENT_MS), silent(direct, HOST_SILENT_MS + 1)]).toEqual([
    false,
    true,
  ])
  expect([silent(stored, 3000), silent(stored, 3001)]).toEqual([false, true])
})

it('takes nothing of a host that drains as ready before it says so', () => {
  const report = createHeartbeat()
  members.take(toHeartbeat(report), nowMs, true)
  members.markDraining(report.host_id)
  merge(rowOf(report, nowMs + 500))
  expect(members.get(report.host_id)?.heartbeat.status).toBe('draining')
  members.take(toHeartbeat({ ...report, beat: 2 }), nowMs, true)
  expect(members.get(report.host_id)?.heartbeat.status).toBe('ready')
})
