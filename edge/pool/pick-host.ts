/**
 * Which hosts to ask for a request, best first. Pure: hosts in, order out. Residency comes first,
 * so that an adapter is loaded rarely; a host far above the average load loses that claim, so that
 * one popular adapter spreads; rendezvous hashing breaks ties, so that every edge agrees without
 * talking.
 */
import { LOAD_BOUND_FACTOR } from '../limits.ts'

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

const TIER_RANK = { slot: 0, ram: 1, disk: 2 } as const
const ABSENT_RANK = 3

/** Empty when no host serves the base model. */
export function pickHosts(hosts: readonly HostState[], wish: HostWish): HostState[] {
  const serving = hosts.filter((host) => host.baseModel === wish.baseModel)
  const bound = loadBound(serving)
  const { digest } = wish
  return serving
    .map((host) => ({
      host,
      isSuspect: Number(host.isSuspect),
      isOverBound: Number(host.sequences + 1 > bound * host.sequencesMax),
      rank: digest === null ? 0 : rankOf(host.tierOf(digest)),
      load: digest === null ? host.sequences / host.sequencesMax : 0,
      // Without an adapter there is nothing to agree on, and the same order would fill one host.
      score: digest === null ? 0 : rendezvousScore(digest, host.hostId),
    }))
    .sort(
      (a, b) =>
        a.isSuspect - b.isSuspect ||
        a.isOverBound - b.isOverBound ||
        a.rank - b.rank ||
        a.load - b.load ||
        b.score - a.score ||
        (a.host.hostId < b.host.hostId ? -1 : 1),
    )
    .map(({ host }) => host)
}

/** Share of its sequences that a host may have in use: the pool's average, and a quarter more. */
function loadBound(hosts: readonly HostState[]): number {
  let sequences = 1
  let sequencesMax = 0
  for (const host of hosts) {
    sequences += host.sequences
    sequencesMax += host.sequencesMax
  }
  return sequencesMax === 0 ? 0 : (LOAD_BOUND_FACTOR * sequences) / sequencesMax
}

function rankOf(tier: AdapterTier | null): number {
  return tier === null ? ABSENT_RANK : TIER_RANK[tier]
}

/** FNV-1a over both names, then a mix of all bits, so that similar names score apart. */
function rendezvousScore(digest: string, hostId: string): number {
  let hash = 0x811c_9dc5
  for (const text of [digest, '\n', hostId]) {
    for (let i = 0; i < text.length; i++) {
      hash = Math.imul(hash ^ text.charCodeAt(i), 0x0100_0193)
    }
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
