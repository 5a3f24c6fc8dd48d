/** How many adapters get another home when a host leaves a pool at rest. */
import { measuredCosts } from './cost-model.ts'
import { ResidencyIndex } from './residency.ts'
import { createRouter, type PolicyName } from './routers.ts'
import { SimEdge } from './sim-edge.ts'
import { SimHost } from './sim-host.ts'

const ADAPTERS = 2000
const HOSTS_MAX = 200
/** Their choice depends on load alone, or on whose turn it is: no adapter has a home. */
const HOMELESS: readonly PolicyName[] = ['round-robin', 'least-load', 'in-flight-affinity']

/**
 * Adapters that move ÷ those that were on the host: 1 = nobody moves who need not. Looked at with
 * at most HOSTS_MAX hosts; null for a policy that gives adapters no home.
 */
export function countMoves(policy: PolicyName, hosts: number, seed: number): number | null {
  if (HOMELESS.includes(policy) || hosts < 2) return null
  const costs = measuredCosts()
  const events = { firstToken: () => {}, end: () => {}, tooLate: () => {} }
  const index = new ResidencyIndex()
  const all = Array.from(
    { length: Math.min(hosts, HOSTS_MAX) },
    (_, i) => new SimHost(i, costs, events, index),
  )
  const { slots, sequences } = costs.host
  const homes = (pool: readonly SimHost[]): (string | undefined)[] => {
    const edge = new SimEdge(pool, sequences, [])
    const router = createRouter(policy, { seed, slots, attempts: 1 })
    return Array.from({ length: ADAPTERS }, (_, i) => {
      return router(edge, { digest: `adapter-${i}`, tenantId: `ten_${i}` })[0]?.hostId
    })
  }
  const before = homes(all)
  const after = homes(all.slice(1))
  const moved = before.filter((home, i) => home !== after[i]).length
  const owned = before.filter((home) => home === 'hst_0').length
  return owned === 0 ? null : Math.round((100 * moved) / owned) / 100
}
