/**
 * Which hosts to ask for a request, best first. Pure: hosts in, order out, and the same on every
 * edge that sees the same. Three rules, in this order:
 *
 * 1. Hosts in doubt come last, and before them those above the load bound, least busy first.
 * 2. An adapter is served by as many hosts as its demand needs: those that have it nearest, then
 *    those of the highest rendezvous score. So it is loaded rarely, and where all edges expect it.
 * 3. Among these the least busy is asked first, a load counting as some business of its own.
 */
import { LOAD_BOUND_FACTOR, LOAD_CLAIM_SHARE, REPLICA_SHARE, WAIT_FULL_MS } from '../limits.ts'
import { hashText, rendezvousScore } from './rendezvous.ts'

export type AdapterTier = 'slot' | 'ram' | 'disk'

export interface HostState {
  readonly hostId: string
  readonly url: string
  readonly baseModel: string
  readonly contextLength: number
  /** Sequences running and queued, as far as this edge knows. */
  readonly sequences: number
  readonly sequencesMax: number
  /** How long a request that came now would wait for its turn there, as the host reckons. */
  readonly waitMs: number
  /** The share of its capacity that it may be given now: 0 < weight ≤ 1. */
  readonly weight: number
  /** A call to it failed a moment ago. */
  readonly isSuspect: boolean
  tierOf(digest: string): AdapterTier | null
}

export interface HostWish {
  readonly baseModel: string
  /** null = the base model alone, which is resident everywhere. */
  readonly digest: string | null
  readonly tenantId: string
  /** Sequences with the adapter that run or wait in the whole pool. */
  readonly demand: number
}

export interface PickOptions {
  /** How many hosts are wanted; absent = all. */
  readonly count?: number | undefined
  /** Ids of hosts that are not to be asked. */
  readonly except?: ReadonlySet<string> | undefined
  /** Ids of the only hosts that may be asked; null or absent = any. */
  readonly only?: ReadonlySet<string> | null
  /** Hosts that share the adapter; absent = as many as `demand` needs at this moment. */
  readonly replicas?: number
  /** Id of the host that was asked to load the adapter and may not have said yet that it has. */
  readonly comingTo?: string | null
}

/** How far off an adapter is, and how much busier than another a host may be to keep it. */
const NEARNESS = {
  slot: { rank: 0, share: 0 },
  ram: { rank: 1, share: 0.05 },
  disk: { rank: 2, share: 0.15 },
  absent: { rank: 3, share: 0.3 },
} as const

/** Requests without an adapter go to one of their tenant's two hosts, where prefixes are cached. */
const BASE_REPLICAS_MIN = 2

interface Candidate {
  readonly host: HostState
  /** 0 = within the bound, 1 = above it, 2 = in doubt. */
  readonly group: 0 | 1 | 2
  readonly nearness: (typeof NEARNESS)[keyof typeof NEARNESS]
  readonly busy: number
  readonly score: number
}

/** Empty when no host serves the base model. */
export function pickHosts(
  hosts: readonly HostState[],
  wish: HostWish,
  options: PickOptions = {},
): HostState[] {
  const serving = hosts.filter(({ baseModel }) => baseModel === wish.baseModel)
  const load = poolLoad(serving)
  const { count = serving.length, except, only, comingTo } = options
  const needed = options.replicas ?? replicasFor(wish.demand, load.capacity)
  const replicas = wish.digest === null ? Math.max(BASE_REPLICAS_MIN, needed) : needed
  const keyHash = hashText(wish.digest ?? wish.tenantId)
  const candidates: Candidate[] = []
  for (const host of serving) {
    const { hostId } = host
    if (except?.has(hostId) || (only && !only.has(hostId))) continue
    const busy = businessOf(host)
    candidates.push({
      host,
      group: host.isSuspect ? 2 : busy > load.bound ? 1 : 0,
      nearness: nearnessOf(host, wish.digest, comingTo),
      busy,
      score: rendezvousScore(keyHash, hashText(hostId)),
    })
  }
  const ordered = first(candidates, Math.max(count, replicas), byClaim)
  const claims = ordered.filter(({ group }, i) => group === 0 && i < replicas)
  claims.sort(byBusiness)
  return [...claims, ...ordered.slice(claims.length)].slice(0, count).map(({ host }) => host)
}

/**
 * How busy the host would be with one request more: 1 = all that it may be given now. A wait counts
 * beside the sequences, since the host knows how long its sequences take.
 */
export function businessOf({ sequences, sequencesMax, waitMs, weight }: HostState): number {
  return (sequences + 1) / (sequencesMax * weight) + waitMs / WAIT_FULL_MS
}

export interface PoolLoad {
  /** How busy a host may be before its requests go elsewhere. */
  readonly bound: number
  /** Sequences that a host of the pool may be given now, on average. */
  readonly capacity: number
}

/** A host keeps its claim while it has room, and in a full pool up to a quarter above average. */
export function poolLoad(hosts: readonly HostState[]): PoolLoad {
  let sequences = 1
  let capacity = 0
  let waited = 0
  for (const host of hosts) {
    const given = host.sequencesMax * host.weight
    sequences += host.sequences
    capacity += given
    waited += host.waitMs * given
  }
  if (capacity === 0) return { bound: LOAD_CLAIM_SHARE, capacity: 0 }
  const average = (sequences + waited / WAIT_FULL_MS) / capacity
  return {
    bound: Math.max(LOAD_CLAIM_SHARE, LOAD_BOUND_FACTOR * average),
    capacity: capacity / hosts.length,
  }
}

/** Hosts that an adapter of this demand needs, each with a part of its capacity to give. */
export function replicasFor(demand: number, hostCapacity: number): number {
  if (hostCapacity === 0) return 1
  return Math.max(1, Math.ceil(demand / (REPLICA_SHARE * hostCapacity)))
}

function nearnessOf(
  host: HostState,
  digest: string | null,
  comingTo: string | null | undefined,
): Candidate['nearness'] {
  if (digest === null) return NEARNESS.slot
  const nearness = NEARNESS[host.tierOf(digest) ?? 'absent']
  const isComing = comingTo === host.hostId && nearness.rank > NEARNESS.ram.rank
  return isComing ? NEARNESS.ram : nearness
}

function byClaim(a: Candidate, b: Candidate): number {
  return (
    a.group - b.group ||
    // Above the bound nothing but the load counts any more.
    (a.group === 1 ? a.busy - b.busy : a.nearness.rank - b.nearness.rank) ||
    byScore(a, b)
  )
}

function byBusiness(a: Candidate, b: Candidate): number {
  return a.busy + a.nearness.share - (b.busy + b.nearness.share) || byScore(a, b)
}

function byScore(a: Candidate, b: Candidate): number {
  return b.score - a.score || (a.host.hostId < b.host.hostId ? -1 : 1)
}

/** The first few of a sorted list, without sorting all of it: pools have thousands of hosts. */
function first<T>(items: T[], count: number, compare: (a: T, b: T) => number): T[] {
  if (count >= items.length) return items.sort(compare)
  const found: T[] = []
  for (const item of items) {
    const last = found[count - 1]
    if (last !== undefined && compare(item, last) > 0) continue
    const at = found.findIndex((other) => compare(item, other) < 0)
    found.splice(at < 0 ? found.length : at, 0, item)
    found.length = Math.min(found.length, count)
  }
  return found
}
