/**
 * `fleet`: a pool of hosts and edges on virtual time, with the decision code that runs in both:
 * Nozzle's routing compared with others' on the very same requests.
 */
import { HOST_ATTEMPTS_MAX } from '../edge/limits.ts'
import { capacityRps, measuredCosts } from './fleet/cost-model.ts'
import { planFaults } from './fleet/fault-plan.ts'
import { toFleetReport } from './fleet/fleet-report.ts'
import { simulateFleet } from './fleet/fleet-sim.ts'
import { countMoves } from './fleet/moves.ts'
import { createRouter, type PolicyName } from './fleet/routers.ts'
import { type Arrivals, drawTraffic, type LengthRange, meanTokens } from './fleet/traffic.ts'

export interface FleetBenchOptions {
  readonly hosts: number
  readonly tenants: number
  readonly edges: number
  readonly requests: number
  readonly arrivals: Arrivals
  /** Of what the pool can serve, when every place runs an adapter of its own. */
  readonly load: number
  readonly seed: number
  readonly policies: readonly PolicyName[]
}

/** Short chats, with a tail. */
const LENGTHS: LengthRange = {
  promptMedian: 64,
  promptMax: 512,
  completionMedian: 24,
  completionMax: 256,
  sigma: 0.8,
}
/** A few tenants have a second model. */
const ADAPTERS_PER_TENANT = 1.2
const WARM_UP_SHARE = 1 / 4

/** Fields of the report are explained in this folder's README. */
export function runFleet(options: FleetBenchOptions) {
  const { hosts, tenants, edges, requests, arrivals, load, seed, policies } = options
  const costs = measuredCosts()
  const rps = load * hosts * capacityRps(costs, meanTokens(LENGTHS))
  const adapters = Math.ceil(ADAPTERS_PER_TENANT * tenants)
  const traffic = drawTraffic({ seed, arrivals, adapters, requests, rps, lengths: LENGTHS })
  const warmUp = Math.floor(requests * WARM_UP_SHARE)
  const fromMs = traffic.arrivedMs[warmUp] ?? 0
  const faults = planFaults(hosts, fromMs, traffic.arrivedMs[requests - 1] ?? 0, seed)
  const compared = policies.map((policy) => {
    const startedMs = performance.now()
    const router = createRouter(policy, {
      seed,
      slots: costs.host.slots,
      attempts: HOST_ATTEMPTS_MAX,
    })
    const result = simulateFleet({
      ...{ seed, hosts, edges, adapters, tenants, costs, traffic, router, faults, warmUp },
    })
    const report = {
      policy,
      ...toFleetReport({ result, traffic, costs, tenants, warmUp }),
      moves_ratio: countMoves(policy, hosts, seed),
      simulated_in_s: Math.round((performance.now() - startedMs) / 100) / 10,
    }
    process.stderr.write(`fleet: ${JSON.stringify(report)}\n`)
    return report
  })
  const [first] = compared
  if (first === undefined) throw new RangeError('--policy must name one policy at least')
  const { policy, rps: measuredRps, loads_per_1k, ttft_p99, jain, gpu_seconds_per_1k } = first
  return {
    ...{ hosts, tenants, rps: measuredRps, loads_per_1k, ttft_p99, jain, gpu_seconds_per_1k },
    policy,
    ...{ edges, adapters, arrivals, load, seed, faults: faults.length },
    compared,
    costs,
  }
}
