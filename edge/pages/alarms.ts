/** What an operator should look at, worst first. Pure: what the pool says in, alarms out. */
import type { Health, HostView, Lag } from './wire.ts'

export interface Alarm {
  readonly level: 'bad' | 'warn'
  readonly text: string
}

export interface PoolState {
  readonly hosts: readonly HostView[]
  readonly health: Health
  readonly lag: Lag
  readonly nowMs: number
}

/** Of a queue's places: from then on requests are about to be refused. */
const QUEUE_FULL = 0.8
/** The job runs each 5 s, in a Worker each minute. */
const ROLLUP_LAG_S = 120
/** Hosts ship usage as soon as they have it. */
const USAGE_LAG_S = 60

export function findAlarms({ hosts, health, lag, nowMs }: PoolState): Alarm[] {
  const found: Alarm[] = []
  if (health.status === 'degraded') {
    found.push({
      level: 'bad',
      text: `The database has not answered for ${health.database_away_s ?? 0} s.`,
    })
  }
  if (health.hosts_ready === 0) found.push({ level: 'bad', text: 'No host is ready.' })
  for (const host of hosts) found.push(...alarmsOf(host, nowMs))
  found.push(...alarmsOfBooks(lag))
  return found.sort((a, b) => Number(a.level === 'warn') - Number(b.level === 'warn'))
}

function alarmsOf(host: HostView, nowMs: number): Alarm[] {
  if (host.status === 'gone') return []
  const name = host.host_name || host.host_id
  if (host.status === 'silent') {
    const { last_seen_at: seenAt } = host
    const ago = seenAt === null ? '' : ` for ${Math.round((nowMs - seenAt.getTime()) / 1000)} s`
    return [{ level: 'bad', text: `${name} is away: nothing was heard of it${ago}.` }]
  }
  const { queue_depth: depth, queue_depth_max: depthMax } = host.load
  const isFull = depth >= QUEUE_FULL * depthMax
  return isFull
    ? [{ level: 'warn', text: `${name} has ${depth} requests waiting, of ${depthMax} at most.` }]
    : []
}

function alarmsOfBooks({ rollup_s: rollupS, usage_s: usageS, dead_letters: dead }: Lag): Alarm[] {
  const found: Alarm[] = []
  if (rollupS !== null && rollupS > ROLLUP_LAG_S) {
    const waits = Math.round(rollupS)
    const text = `Usage is not rolled up: the oldest charge waits for ${waits} s.`
    found.push({ level: 'bad', text })
  }
  if (usageS !== null && usageS > USAGE_LAG_S) {
    const late = Math.round(usageS)
    const text = `Usage of the last hour came late: up to ${late} s after a request had ended.`
    found.push({ level: 'warn', text })
  }
  if (dead > 0) {
    const text = `${dead} CloudEvents were refused by their receiver and given up.`
    found.push({ level: 'warn', text })
  }
  return found
}
