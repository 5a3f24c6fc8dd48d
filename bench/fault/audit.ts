/**
 * The audit: what clients counted, what the hosts' journals settled and what the ledger charged,
 * request by request.
 * - lost: a settled event that the ledger lacks, or tokens delivered beyond those charged.
 * - double: a request charged for more than its last attempt, or an entry that is not its event's
 *   tokens × price.
 * - overrun: chunks charged beyond those delivered, per choice. Where an edge dies, delivered is
 *   what a host handed to the edge's connection; what the edge took along is `edgeLagChunks`.
 * Pure.
 */
import type { UsageEvent } from '../../gpu-host/protocol.ts'
import type { Charge } from './charges.ts'
import type { Delivery } from './client.ts'
import type { Victim } from './crash-plan.ts'

export interface Finding {
  readonly number: number
  readonly kind: 'lost' | 'double' | 'overrun'
  readonly what: string
}

export interface Audit {
  readonly requests: number
  readonly charged: number
  readonly lost: number
  readonly double: number
  /** Of streams, by who died. */
  readonly worstOverrunChunks: Readonly<Record<Victim, number>>
  /** Most that a dying edge took along: chunks it was handed and its client never got. */
  readonly edgeLagChunks: number
  /** Streams whose overrun was above one chunk. */
  readonly overruns: number
  /** Whole replies that were charged and did not arrive. */
  readonly wholeUndelivered: number
  readonly findings: readonly Finding[]
}

export interface AuditFacts {
  /** From the hosts' journals. */
  readonly settled: readonly UsageEvent[]
  readonly charges: readonly Charge[]
  readonly deliveries: readonly Delivery[]
  readonly victimOf: (number: number) => Victim
  readonly handedOver: (requestId: string) => number | null
}

export const OVERRUN_CHUNKS_MAX = 1
const FINDINGS_SHOWN_MAX = 20

/** Every settled event of the journals is in the ledger, and so is everything delivered. */
export function isDrained({ settled, charges, deliveries }: AuditFacts): boolean {
  const stored = new Set(charges.map(keyOf))
  const charged = new Set(charges.map((charge) => charge.request_id))
  return (
    settled.every((event) => stored.has(keyOf(event))) &&
    deliveries.every(({ requestId, tokens }) => tokens === 0 || charged.has(requestId ?? ''))
  )
}

export function audit(facts: AuditFacts): Audit {
  const findings = [...missingEvents(facts), ...wrongCharges(facts)]
  const worstOverrunChunks = { host: 0, edge: 0, writer: 0, database: 0 }
  const byRequest = Map.groupBy(facts.charges, (charge) => charge.request_id)
  const byPlace = Map.groupBy(facts.charges, (charge) => placeOf(charge))
  let wholeUndelivered = 0
  let edgeLagChunks = 0
  for (const delivery of facts.deliveries) {
    const charges =
      (delivery.requestId === null
        ? byPlace.get(placeOf({ key_id: delivery.keyId, prompt_tokens: delivery.promptTokens }))
        : byRequest.get(delivery.requestId)) ?? []
    const { number, tokens, asked, isWhole, toldTokens } = delivery
    const billed = chargedTokens(charges)
    const say = (kind: Finding['kind'], what: string) =>
      findings.push({ number, kind, what: `${delivery.requestId}: ${what}` })
    if (billed < tokens) say('lost', `${tokens} tokens delivered, ${billed} charged`)
    if (isWhole && (billed !== tokens || toldTokens !== billed)) {
      say(billed > tokens ? 'double' : 'lost', `whole reply of ${tokens}, ${billed} charged`)
    }
    if (!asked.isStream) {
      if (billed > tokens) wholeUndelivered += 1
      continue
    }
    const victim = facts.victimOf(number)
    const toChunks = (count: number) => Math.ceil(count / asked.choices)
    const requestId = charges[0]?.request_id ?? ''
    const isEdgesLoss = victim === 'edge' || victim === 'writer'
    const handed = (isEdgesLoss ? facts.handedOver(requestId) : null) ?? tokens
    edgeLagChunks = Math.max(edgeLagChunks, toChunks(handed - tokens))
    const chunks = toChunks(billed - Math.max(tokens, handed))
    worstOverrunChunks[victim] = Math.max(worstOverrunChunks[victim], chunks)
    if (chunks > OVERRUN_CHUNKS_MAX)
      say('overrun', `${tokens} delivered, ${handed} handed over, ${billed} charged`)
  }
  const count = (kind: Finding['kind']) => findings.filter((it) => it.kind === kind).length
  return {
    requests: facts.deliveries.length,
    charged: byRequest.size,
    lost: count('lost'),
    double: count('double'),
    worstOverrunChunks,
    edgeLagChunks,
    overruns: count('overrun'),
    wholeUndelivered,
    findings: findings.slice(0, FINDINGS_SHOWN_MAX),
  }
}

export function joinAudits(a: Audit, b: Audit): Audit {
  const worst = (victim: Victim) =>
    Math.max(a.worstOverrunChunks[victim], b.worstOverrunChunks[victim])
  return {
    requests: a.requests + b.requests,
    charged: a.charged + b.charged,
    lost: a.lost + b.lost,
    double: a.double + b.double,
    worstOverrunChunks: {
      host: worst('host'),
      edge: worst('edge'),
      writer: worst('writer'),
      database: worst('database'),
    },
    edgeLagChunks: Math.max(a.edgeLagChunks, b.edgeLagChunks),
    overruns: a.overruns + b.overruns,
    wholeUndelivered: a.wholeUndelivered + b.wholeUndelivered,
    findings: [...a.findings, ...b.findings].slice(0, FINDINGS_SHOWN_MAX),
  }
}

function missingEvents({ settled, charges, deliveries }: AuditFacts): Finding[] {
  const stored = new Set(charges.map(keyOf))
  const numbers = new Map(deliveries.map(({ requestId, number }) => [requestId, number]))
  return settled
    .filter((event) => !stored.has(keyOf(event)))
    .map((event) => ({
      number: numbers.get(event.request_id) ?? -1,
      kind: 'lost' as const,
      what: `${event.request_id}: settled by ${event.host_id}, not in the ledger`,
    }))
}

/** The highest attempt alone is charged, once, and exactly what its tokens come to. */
function wrongCharges({ charges, deliveries }: AuditFacts): Finding[] {
  const numbers = new Map(deliveries.map(({ requestId, number }) => [requestId, number]))
  const findings: Finding[] = []
  for (const [requestId, attempts] of Map.groupBy(charges, (it) => it.request_id)) {
    const last = Math.max(...attempts.map(({ attempt }) => attempt))
    for (const { attempt, net_pusd, worth_pusd } of attempts) {
      const due = attempt === last ? worth_pusd : 0n
      if (net_pusd === due) continue
      const what = `${requestId} attempt ${attempt}: ${net_pusd} pUSD charged, ${due} due`
      const kind = net_pusd > due ? 'double' : 'lost'
      findings.push({ number: numbers.get(requestId) ?? -1, kind, what })
    }
  }
  return findings
}

function chargedTokens(charges: readonly Charge[]): number {
  const last = charges.reduce<Charge | null>(
    (best, charge) => (best === null || charge.attempt > best.attempt ? charge : best),
    null,
  )
  return last?.completion_tokens ?? 0
}

function keyOf(event: { readonly request_id: string; readonly attempt: number }): string {
  return `${event.request_id}/${event.attempt}`
}

/** Tells the requests of a lane apart where no headers came: see `Delivery.promptTokens`. */
function placeOf(it: { readonly key_id: string | null; readonly prompt_tokens: number }): string {
  return `${it.key_id}/${it.prompt_tokens}`
}
