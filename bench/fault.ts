/**
 * `bench fault`: seeded crash points, and whether any of them loses or doubles a token. Real
 * processes are killed; see fault/real-cases.ts.
 */
import { OVERRUN_CHUNKS_MAX } from './fault/audit.ts'
import { VICTIMS } from './fault/crash-plan.ts'
import { type RealOutcome, runRealCases } from './fault/real-cases.ts'

export interface FaultOptions {
  readonly seed: number
  /** Cases in which real processes die. */
  readonly real: number
  /** Clusters that take them side by side. */
  readonly lanes: number
  /** One case alone; null = all. */
  readonly only: number | null
}

export interface FaultReport {
  readonly seed: number
  readonly seeds: number
  readonly lost: number
  readonly double: number
  readonly worst_overrun_chunks: number
  readonly real: ReturnType<typeof toRealReport>
  /** What went wrong, each with the command that runs its case alone. */
  readonly findings: readonly string[]
  readonly wall_s: number
}

export async function runFault(options: FaultOptions): Promise<FaultReport> {
  const { seed, real, lanes, only } = options
  const startMs = performance.now()
  const numbers = only === null ? Array.from({ length: real }, (_, i) => i) : [only]
  const note = (text: string) => void process.stderr.write(`${text}\n`)
  const outcome = await runRealCases({ seed, numbers, lanes, note })
  return {
    seed,
    seeds: numbers.length,
    lost: outcome.lost,
    double: outcome.double,
    worst_overrun_chunks: Math.max(...VICTIMS.map((victim) => outcome.worstOverrunChunks[victim])),
    real: toRealReport(outcome),
    findings: outcome.findings.map(
      ({ number, kind, what }) => `${kind}: ${what} (fault --seed ${seed} --case ${number})`,
    ),
    wall_s: Math.round((performance.now() - startMs) / 100) / 10,
  }
}

/** Whether the report shows what it must. */
export function isSound({ lost, double, worst_overrun_chunks }: FaultReport): boolean {
  return lost === 0 && double === 0 && worst_overrun_chunks <= OVERRUN_CHUNKS_MAX
}

function toRealReport(outcome: RealOutcome) {
  return {
    points: outcome.cases,
    points_reached_late: outcome.late,
    requests: outcome.requests,
    charged: outcome.charged,
    worst_overrun_chunks: outcome.worstOverrunChunks,
    edge_lag_chunks: outcome.edgeLagChunks,
    whole_undelivered: outcome.wholeUndelivered,
  }
}
