/** A simulated run → the figures by which policies are compared. Pure. */
import { mean, percentile, significant } from '../lib/statistics.ts'
import { type CostModel, stepTimeMs } from './cost-model.ts'
import { type FleetResult, OUTCOMES } from './fleet-sim.ts'
import type { Traffic } from './traffic.ts'

/** A refused or cut request counts as one whose first token took so long. */
export const FAILED_TTFT_MS = 60_000

export interface ReportInput {
  readonly result: FleetResult
  readonly traffic: Traffic
  readonly costs: CostModel
  readonly tenants: number
  readonly warmUp: number
}

/** Fields are explained in bench/README.md. */
export function toFleetReport({ result, traffic, costs, tenants, warmUp }: ReportInput) {
  const { measured, outcomes, ttftMs } = result
  const count = outcomes.length - warmUp
  const ttft = Array.from(ttftMs.subarray(warmUp), (ms, i) => {
    return outcomes[warmUp + i] === OUTCOMES.served ? ms : FAILED_TTFT_MS
  })
  const share = (outcome: number): number =>
    significant(outcomes.subarray(warmUp).filter((each) => each === outcome).length / count)
  const perThousand = (total: number): number => significant((total * 1000) / count)
  const busyMs = [...measured.busyMs]
  const seconds = (measured.toMs - measured.fromMs) / 1000
  const meanBusyMs = mean(busyMs)
  return {
    requests: count,
    rps: significant(count / seconds),
    loads_per_1k: perThousand(measured.loads),
    disk_reads_per_1k: perThousand(measured.diskReads),
    store_fetches_per_1k: perThousand(measured.storeFetches),
    ttft_p50: significant(percentile(ttft, 0.5)),
    ttft_p99: significant(percentile(ttft, 0.99)),
    jain: significant(jainIndex(slowdowns({ result, traffic, costs, tenants, warmUp }))),
    gpu_seconds_per_1k: significant(busyMs.reduce((sum, ms) => sum + ms, 0) / count),
    busy_mean: significant(meanBusyMs / (seconds * 1000)),
    busy_max_over_mean: significant(Math.max(...busyMs) / meanBusyMs),
    refused_share: share(OUTCOMES.refused),
    cut_share: share(OUTCOMES.cut),
    attempts_per_request: significant(result.attempts / outcomes.length),
  }
}

/** 1 where all values are equal, 1/n where one has everything. */
export function jainIndex(values: readonly number[]): number {
  const sum = values.reduce((total, value) => total + value, 0)
  const squares = values.reduce((total, value) => total + value * value, 0)
  return squares === 0 ? 0 : (sum * sum) / (values.length * squares)
}

/** By tenant that asked: mean of (time alone on a host at rest) ÷ (time taken); 0 = not served. */
function slowdowns({ result, traffic, costs, tenants, warmUp }: ReportInput): number[] {
  const sums = new Float64Array(tenants)
  const counts = new Uint32Array(tenants)
  for (let i = warmUp; i < result.outcomes.length; i++) {
    const tenant = (traffic.adapter[i] ?? 0) % tenants
    counts[tenant] = (counts[tenant] ?? 0) + 1
    if (result.outcomes[i] !== OUTCOMES.served) continue
    const alone = aloneMs(costs, traffic.promptTokens[i] ?? 1, traffic.completionTokens[i] ?? 1)
    sums[tenant] = (sums[tenant] ?? 0) + alone / (result.totalMs[i] ?? Number.NaN)
  }
  return Array.from(sums, (sum, tenant) => sum / (counts[tenant] ?? 0)).filter(
    (value) => !Number.isNaN(value),
  )
}

/** Of a request whose adapter is in its slot, on a host that does nothing else. */
function aloneMs({ step, host, pathMs }: CostModel, prompt: number, completion: number): number {
  const promptSteps = Math.ceil(prompt / host.prefillRowsMax)
  const rowsMs = (step.promptRowMs + step.adapterRowMs) * prompt
  const promptMs = promptSteps * (step.baseMs + step.distinctMs) + rowsMs
  const decodeMs = stepTimeMs(step, { decode: 1, prompt: 0, distinct: 1 })
  return pathMs + promptMs + decodeMs * (completion - 1)
}
