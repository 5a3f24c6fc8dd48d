/**
 * Which hosts to ask for a request, best first. Pure: hosts in, order out, and the same on every
 * edge that sees the same.
 *
 * Each host has a price, in parts of a host's capacity: how busy it would be, and how far off the
 * adapter is. So a request goes where its first token is likely to come soonest. An adapter comes
 * to a new host when those that have it are so much busier that a load pays, sooner to those of the
 * highest rendezvous scores, as many as its demand needs: it is loaded rarely, and where all edges
 * expect it. Hosts in doubt come last. The prices won in simulation, see `bench fleet`.
 */
import { hashText } from '../hash-text.ts'
import { REPLICA_SHARE, WAIT_FULL_MS } from '../limits.ts'
import { rendezvousScore, SCORE_MAX } from './rendezvous.ts'

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

/**
 * How far off an adapter is, as what would make a first token as late: in slot, in RAM, on disk, in
 * the store alone. `second` is dearer than any idle host is worth: while a crowd asks for an
 * adapter that one host has, or is about to have, they wait there for as long as its queue has room
 * (the host says when not).
 */
const PRICES = { slot: 0, ram: 0.01, disk: 0.07, replica: 0.2, elsewhere: 0.3, second: 3 } as const
/** Among hosts of about one price, those of the highest scores: edges that do not talk agree. */
const SCORE_PRICE = 0.03
/** The part of a host's sequences that is its main business. */
const CROWD_SHARE = 0.5

/** Requests without an adapter go to one of their tenant's two hosts, where prefixes are cached. */
const BASE_REPLICAS_MIN = 2

interface Place {
  readonly host: HostState
  readonly tier: AdapterTier | null
  readonly score: number
}

interface Candidate {
  readonly host: HostState
  readonly price: number
  readonly score: number
}

/** Empty when no host serves the base model. */
export function pickHosts(
  hosts: readonly HostState[],
  wish: HostWish,
  options: PickOptions = {},
): HostState[] {
  const { count = hosts.length, except, only, comingTo = null } = options
  const serving = hosts.filter(({ baseModel }) => baseModel === wish.baseModel)
  const keyHash = hashText(wish.digest ?? wish.tenantId)
  const places = serving.map((host): Place => {
    const tier = wish.digest === null ? null : host.tierOf(wish.digest)
    return { host, tier, score: rendezvousScore(keyHash, hashText(host.hostId)) }
  })
  const replicas = replicasOf(serving, wish, options)
  const isAlone = replicas === 1 && isCrowdAtOne(places, wish, comingTo)
  const least = leastOfBest(places, replicas)
  const candidates: Candidate[] = []
  for (const place of places) {
    const { host, score } = place
    if (except?.has(host.hostId) || (only && !only.has(host.hostId))) continue
    const below = isAlone ? PRICES.second : PRICES[score >= least ? 'replica' : 'elsewhere']
    const distance = distanceOf(place, below, comingTo)
    const price = businessOf(host) + distance - (SCORE_PRICE * score) / SCORE_MAX
    candidates.push({ host, price, score })
  }
  return first(candidates, count, byPrice).map(({ host }) => host)
}

function replicasOf(hosts: readonly HostState[], wish: HostWish, options: PickOptions): number {
  const needed = options.replicas ?? replicasFor(wish.demand, capacityOf(hosts))
  return wish.digest === null ? Math.max(BASE_REPLICAS_MIN, needed) : needed
}

/** `below` = where it is not at all. */
function distanceOf({ host, tier }: Place, below: number, comingTo: string | null): number {
  const price = tier === null ? below : PRICES[tier]
  return comingTo === host.hostId ? Math.min(price, PRICES.ram) : price
}

/**
 * Whether one host alone has the adapter or is about to, and is busy with little else. A crowd that
 * is over before another host has loaded needs none; one that lasts raises the replicas. All edges
 * see that alike, whichever of them sent the first request.
 */
function isCrowdAtOne(
  places: readonly Place[],
  { demand }: HostWish,
  comingTo: string | null,
): boolean {
  const homes = places.filter((place) => isInMemory(place) || place.host.hostId === comingTo)
  const [home] = homes
  if (home === undefined || homes.length > 1) return false
  return !isInMemory(home) || demand >= CROWD_SHARE * home.host.sequences
}

function isInMemory({ tier }: Place): boolean {
  return tier === 'slot' || tier === 'ram'
}

/**
 * How busy the host would be with one request more: 1 = all that it may be given now. A wait counts
 * beside the sequences, since the host knows how long its sequences take.
 */
export function businessOf({ sequences, sequencesMax, waitMs, weight }: HostState): number {
  return (sequences + 1) / (sequencesMax * weight) + waitMs / WAIT_FULL_MS
}

/** Sequences that a host of the pool may be given now, on average. */
export function capacityOf(hosts: readonly HostState[]): number {
  let capacity = 0
  for (const { sequencesMax, weight } of hosts) capacity += sequencesMax * weight
  return hosts.length === 0 ? 0 : capacity / hosts.length
}

/** Hosts that an adapter of this demand needs, each with a part of its capacity to give. */
export function replicasFor(demand: number, hostCapacity: number): number {
  if (hostCapacity === 0) return 1
  return Math.max(1, Math.ceil(demand / (REPLICA_SHARE * hostCapacity)))
}

/** The `count`th highest score. */
function leastOfBest(places: readonly Place[], count: number): number {
  if (count >= places.length) return 0
  return first(places, count, (a, b) => b.score - a.score).at(-1)?.score ?? SCORE_MAX
}

function byPrice(a: Candidate, b: Candidate): number {
  return (
    Number(a.host.isSuspect) - Number(b.host.isSuspect) ||
    a.price - b.price ||
    b.score - a.score ||
    (a.host.hostId < b.host.hostId ? -1 : 1)
  )
}

/** The first few of a sorted list, without sorting all of it: pools have thousands of hosts. */
function first<T>(items: readonly T[], count: number, compare: (a: T, b: T) => number): T[] {
  if (count >= items.length) return [...items].sort(compare)
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
