/**
 * The audit of a simulated case. Where only processes die, nothing may be lost; where the machine
 * does, what was given in the last moments may be, in the customer's favour; and never is more
 * charged than was given and one chunk. Pure.
 */
import type { UsageEvent } from '../../gpu-host/protocol.ts'
import type { Finding } from './audit.ts'
import type { Charge } from './charges.ts'
import { FSYNC_INTERVAL_MS, type SimulatedRequest, tokensOf } from './simulated-host.ts'

export interface SimulatedFacts {
  readonly number: number
  readonly requests: readonly SimulatedRequest[]
  /** From the journal, when all is over. */
  readonly settled: readonly UsageEvent[]
  readonly charges: readonly Charge[]
  readonly mayLosePower: boolean
  /** How long of that time an fsync was under way. */
  readonly syncingMs: (fromMs: number, toMs: number) => number
}

export interface SimulatedAudit {
  readonly requests: number
  readonly lost: number
  readonly double: number
  readonly worstOverrunChunks: number
  /**
   * Age, when the machine died, of the oldest chunk that was given and is not charged; without the
   * time that the disk took for fsyncs.
   */
  readonly powerLossMs: number
  readonly findings: readonly Finding[]
}

/** A chunk waits for its group; beyond that only for the disk. */
export const POWER_LOSS_MS_MAX = FSYNC_INTERVAL_MS

export function auditSimulated(facts: SimulatedFacts): SimulatedAudit {
  const findings: Finding[] = []
  const say = (kind: Finding['kind'], what: string): void => {
    findings.push({ number: facts.number, kind, what })
  }
  const charges = new Map(facts.charges.map((charge) => [charge.request_id, charge]))
  let worstOverrunChunks = 0
  let powerLossMs = 0
  for (const request of facts.requests) {
    const id = request.facts.request_id
    const given = tokensOf(request)
    const billed = charges.get(id)?.completion_tokens ?? 0
    if (billed > given) {
      const chunks = billed === given + request.underWay ? 1 : 2
      worstOverrunChunks = Math.max(worstOverrunChunks, chunks)
      if (chunks > 1) say('overrun', `${id}: ${given} given, ${billed} charged`)
    }
    if (billed >= given) continue
    const ageMs = oldestLossMs(request, billed, facts.syncingMs)
    powerLossMs = Math.max(powerLossMs, ageMs)
    if (!facts.mayLosePower || ageMs > POWER_LOSS_MS_MAX) {
      say(
        'lost',
        `${id}: ${given} given, ${billed} charged, the oldest ${ageMs} ms and its fsyncs before the end`,
      )
    }
  }
  for (const what of unlike(facts.settled, charges)) say('lost', what)
  for (const { request_id, net_pusd, worth_pusd } of facts.charges) {
    if (net_pusd === worth_pusd) continue
    say(net_pusd > worth_pusd ? 'double' : 'lost', `${request_id}: charged ${net_pusd} pUSD`)
  }
  const count = (kind: Finding['kind']) => findings.filter((it) => it.kind === kind).length
  return {
    requests: facts.requests.length,
    lost: count('lost'),
    double: count('double'),
    worstOverrunChunks,
    powerLossMs,
    findings,
  }
}

/** Settled events that the ledger lacks or holds with other numbers. */
function unlike(settled: readonly UsageEvent[], charges: ReadonlyMap<string, Charge>): string[] {
  return settled.flatMap(({ request_id, prompt_tokens, completion_tokens }) => {
    const charge = charges.get(request_id)
    if (charge === undefined) return [`${request_id}: settled, not in the ledger`]
    const isSame =
      charge.prompt_tokens === prompt_tokens && charge.completion_tokens === completion_tokens
    return isSame ? [] : [`${request_id}: journal and ledger differ`]
  })
}

function oldestLossMs(
  { given, endedMs }: SimulatedRequest,
  billed: number,
  syncingMs: SimulatedFacts['syncingMs'],
): number {
  let sum = 0
  for (const { tokens, atMs } of given) {
    sum += tokens
    if (sum > billed) return endedMs - atMs - syncingMs(atMs, endedMs)
  }
  return 0
}
