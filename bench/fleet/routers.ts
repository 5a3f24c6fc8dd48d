/**
 * Who decides where a request goes: the edge's own code, and the policies it is compared with. All
 * see the same heartbeats, of the same age, and the edge's own requests in flight; what the edge
 * makes of them (edge/pool/host-load.ts) is its own.
 */
import type { HostState } from '../../edge/pool/pick-host.ts'
import { Placement } from '../../edge/pool/placement.ts'
import { Random } from '../../native/test/support/random.ts'
import { BASE_MODEL, type HostView, type SimEdge } from './sim-edge.ts'

export interface RouteWish {
  readonly digest: string
  readonly tenantId: string
}

/** Hosts to ask, best first; few. */
export type Router = (edge: SimEdge, wish: RouteWish) => readonly HostState[]

export interface RouterOptions {
  readonly seed: number
  readonly slots: number
  readonly attempts: number
}

export const POLICIES = [
  'nozzle',
  'round-robin',
  'rendezvous',
  'least-load',
  'in-flight-affinity',
] as const
export type PolicyName = (typeof POLICIES)[number]

/** One router for all edges: what it remembers is each edge's own. */
export function createRouter(policy: PolicyName, options: RouterOptions): Router {
  const { attempts } = options
  const random = new Random('router', policy, options.seed)
  switch (policy) {
    case 'nozzle':
      return placement(attempts)
    case 'round-robin':
      return roundRobin(attempts, random)
    case 'rendezvous':
      return (edge, { digest }) => {
        const key = hashText(digest)
        return best(edge.serving, attempts, random, (view) => mix(key ^ keyOf(view)))
      }
    case 'least-load':
      return (edge) =>
        best(edge.serving, attempts, random, ({ plainSequences, sequencesMax }) => {
          return -plainSequences / sequencesMax
        })
    case 'in-flight-affinity':
      return (edge, { digest }) =>
        best(edge.serving, attempts, random, (view) => affinityScore(view, digest, options.slots))
  }
}

/** What an edge remembers between requests (edge/pool/placement.ts) is its own. */
function placement(attempts: number): Router {
  const placements = new Map<SimEdge, Placement>()
  return (edge, { digest, tenantId }) => {
    const own = placements.get(edge) ?? new Placement(() => edge.nowMs)
    placements.set(edge, own)
    const wish = { baseModel: BASE_MODEL, digest, tenantId, demand: edge.demandOf(digest) }
    const choice = own.order(edge.serving, wish, { count: attempts })
    const [first] = choice.kind === 'hosts' ? choice.hosts : []
    if (choice.kind !== 'hosts' || first === undefined) return []
    own.sent(first, digest)
    return choice.hosts
  }
}

function roundRobin(attempts: number, random: Random): Router {
  const turns = new Map<SimEdge, number>()
  return (edge) => {
    const { serving } = edge
    const turn = turns.get(edge) ?? random.integer(Math.max(1, serving.length))
    turns.set(edge, turn + 1)
    return Array.from({ length: Math.min(attempts, serving.length) }, (_, i) => {
      return serving[(turn + i) % serving.length]
    }).filter((view) => view !== undefined)
  }
}

/** Less than the difference of any two scores; more than what load adds below. */
const LOAD_SHARE = 0.1

/**
 * As the README of llm-d's `lora-affinity-scorer` describes it: 1 where a request with the adapter
 * is active, 0.8 where there is room for one more adapter, 0.6 where the adapter waits, else 0. In
 * flight is all it sees: an adapter that is resident and idle counts for nothing. `active` and
 * `waiting` are one list in a heartbeat, so an adapter beyond the host's slots counts as waiting.
 * The usual pairing with a queue scorer is kept in that the less loaded of equals is taken.
 */
function affinityScore(view: HostView, digest: string, slots: number): number {
  const isFull = view.activeCount > slots
  let score = view.activeCount < slots ? 0.8 : 0
  if (view.isActive(digest)) score = isFull ? 0.6 : 1
  return score - LOAD_SHARE * Math.min(1, view.plainSequences / (2 * view.sequencesMax))
}

/** The few with the highest scores, suspects last; ties are drawn. One pass. */
function best(
  views: readonly HostView[],
  count: number,
  random: Random,
  scoreOf: (view: HostView) => number,
): HostView[] {
  const found: { view: HostView; score: number; tie: number }[] = []
  for (const view of views) {
    const score = view.isSuspect ? Number.NEGATIVE_INFINITY : scoreOf(view)
    const last = found.at(-1)
    if (found.length === count && last !== undefined && score < last.score) continue
    const one = { view, score, tie: random.word() }
    let at = found.length
    while (at > 0 && isBetter(one, found[at - 1])) at -= 1
    found.splice(at, 0, one)
    found.length = Math.min(found.length, count)
  }
  return found.map(({ view }) => view)
}

interface Scored {
  readonly score: number
  readonly tie: number
}

function isBetter(one: Scored, other: Scored | undefined): boolean {
  if (other === undefined) return true
  return one.score > other.score || (one.score === other.score && one.tie > other.tie)
}

const keys = new WeakMap<HostView, number>()

function keyOf(view: HostView): number {
  const known = keys.get(view)
  if (known !== undefined) return known
  const key = hashText(view.hostId)
  keys.set(view, key)
  return key
}

function hashText(text: string): number {
  let hash = 0x811c_9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x0100_0193)
  return mix(hash)
}

/** Spreads every bit over all. */
function mix(word: number): number {
  let hash = Math.imul(word ^ (word >>> 16), 0x85eb_ca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
