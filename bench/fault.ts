/**
 * `bench fault`: seeded crash points, and whether any of them loses or doubles a token. Processes
 * are killed in earnest in the first cases (fault/real-cases.ts), a simulated disk takes the others
 * (fault/simulated-cases.ts).
 */
import { type Finding, OVERRUN_CHUNKS_MAX } from './fault/audit.ts'
import { VICTIMS } from './fault/crash-plan.ts'
import { type RealOutcome, runRealCases } from './fault/real-cases.ts'
import { POWER_LOSS_MS_MAX, type SimulatedAudit } from './fault/simulated-audit.ts'
import { runSimulatedCases, type SimulatedOutcome } from './fault/simulated-cases.ts'

export interface FaultOptions {
  readonly seed: number
  /** Cases in all. */
  readonly points: number
  /** Of these, the first so many kill real processes. */
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
  readonly real: ReturnType<typeof toRealReport> | null
  readonly simulated: ReturnType<typeof toSimulatedReport> | null
  /** What went wrong, each with the options that run its case alone. */
  readonly findings: readonly string[]
  readonly wall_s: number
}

const FINDINGS_SHOWN_MAX = 20

export async function runFault(options: FaultOptions): Promise<FaultReport> {
  const { seed, points, real, lanes, only } = options
  const startMs = performance.now()
  const numbers = only === null ? Array.from({ length: points }, (_, i) => i) : [only]
  const note = (text: string) => void process.stderr.write(`${text}\n`)
  const run = { seed, lanes, note }
  const realNumbers = numbers.filter((number) => number < real)
  const others = numbers.filter((number) => number >= real)
  const killed =
    realNumbers.length === 0 ? null : await runRealCases({ ...run, numbers: realNumbers })
  const simulated =
    others.length === 0 ? null : await runSimulatedCases({ ...run, numbers: others })
  const realReport = killed && toRealReport(killed)
  const simulatedReport = simulated && toSimulatedReport(simulated)
  const parts = [realReport, simulatedReport].filter((part) => part !== null)
  const findings = [
    ...(killed?.findings ?? []),
    ...(simulated?.audits.flatMap((audit) => audit.findings) ?? []),
  ]
  const worstOf = (worst: number | Readonly<Record<string, number>>) =>
    typeof worst === 'number' ? worst : Math.max(...Object.values(worst))
  return {
    seed,
    seeds: numbers.length,
    lost: parts.reduce((sum, { lost }) => sum + lost, 0),
    double: parts.reduce((sum, { double }) => sum + double, 0),
    worst_overrun_chunks: Math.max(
      ...parts.map(({ worst_overrun_chunks }) => worstOf(worst_overrun_chunks)),
    ),
    real: realReport,
    simulated: simulatedReport,
    findings: findings.slice(0, FINDINGS_SHOWN_MAX).map((finding) => toLine(finding, options)),
    wall_s: Math.round((performance.now() - startMs) / 100) / 10,
  }
}

/** Whether the report shows what it must. */
export function isSound({ lost, double, worst_overrun_chunks }: FaultReport): boolean {
  return lost === 0 && double === 0 && worst_overrun_chunks <= OVERRUN_CHUNKS_MAX
}

/** `--real` too, since it says which kind of case a number is. */
function toLine({ number, kind, what }: Finding, { seed, real }: FaultOptions): string {
  return `${kind}: ${what} (fault --seed ${seed} --real ${real} --case ${number})`
}

function toRealReport(outcome: RealOutcome) {
  return {
    points: VICTIMS.reduce((sum, victim) => sum + outcome.cases[victim], 0),
    victims: outcome.cases,
    points_reached_late: outcome.late,
    requests: outcome.requests,
    charged: outcome.charged,
    lost: outcome.lost,
    double: outcome.double,
    worst_overrun_chunks: outcome.worstOverrunChunks,
    edge_lag_chunks: outcome.edgeLagChunks,
    whole_undelivered: outcome.wholeUndelivered,
  }
}

function toSimulatedReport({ cases, deaths, deathsInRecovery, audits }: SimulatedOutcome) {
  const total = (field: 'requests' | 'lost' | 'double') =>
    audits.reduce((sum, audit: SimulatedAudit) => sum + audit[field], 0)
  return {
    points: audits.length,
    kinds: cases,
    deaths,
    deaths_in_recovery: deathsInRecovery,
    requests: total('requests'),
    lost: total('lost'),
    double: total('double'),
    worst_overrun_chunks: Math.max(...audits.map((audit) => audit.worstOverrunChunks)),
    power_loss_ms: Math.max(...audits.map((audit) => audit.powerLossMs)),
    power_loss_ms_max: POWER_LOSS_MS_MAX,
  }
}
