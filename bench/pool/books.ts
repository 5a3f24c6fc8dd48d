/**
 * The books of a pool, held against each other when everything on its way has arrived: what the
 * clients were given, what the hosts' journals settled, what the ledger charged.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { openDatabase } from '../../db/client.ts'
import { rollUpUsage } from '../../db/queries/usage-rollups.ts'
import { CURSOR_START, readSettled } from '../../gpu-host/journal/settled-reader.ts'
import type { UsageEvent } from '../../gpu-host/protocol.ts'
import { type Audit, type AuditFacts, audit, isDrained } from '../fault/audit.ts'
import { readCharges } from '../fault/charges.ts'
import type { Delivery } from '../fault/client.ts'
import type { PoolCluster } from './pool-cluster.ts'
import type { Reply } from './visitor.ts'

export interface PoolBooks extends Audit {
  /** Completion tokens, of attempts that another one did not take the place of. */
  readonly journalTokens: number
  readonly ledgerTokens: number
}

const DRAIN_MS_MAX = 60_000
/** Between two looks; what an edge has still to say about a lost attempt is said within it. */
const SETTLE_MS = 500
const DRAINED_LOOKS = 2

/** Resolves with the first quiet look, or with the last one when it takes too long. */
export async function auditPool(
  cluster: PoolCluster,
  databaseUrl: string,
  replies: readonly Reply[],
): Promise<PoolBooks> {
  const deliveries = replies.map(toDelivery)
  const database = await openDatabase(databaseUrl)
  const look = async (): Promise<AuditFacts> => ({
    settled: cluster.hosts.flatMap(({ journal }) => readJournal(journal)),
    charges: (
      await Promise.all(cluster.tenants.map(({ id }) => readCharges(database.db, id)))
    ).flat(),
    deliveries,
    handedOver: () => null,
    victimOf: () => 'host',
  })
  try {
    await rollUpUsage(database.db)
    const deadline = performance.now() + DRAIN_MS_MAX
    for (let drained = 0; drained < DRAINED_LOOKS && performance.now() < deadline; ) {
      drained = isDrained(await look()) ? drained + 1 : 0
      await sleep(SETTLE_MS)
    }
    const facts = await look()
    return { ...audit(facts), ...countTokens(facts) }
  } finally {
    await database.close()
  }
}

function readJournal(directory: string): UsageEvent[] {
  return [...readSettled(directory, CURSOR_START, Number.MAX_SAFE_INTEGER).events]
}

function countTokens({ settled, charges }: AuditFacts) {
  const lastOf = new Map<string, number>()
  for (const { request_id: id, attempt } of [...settled, ...charges]) {
    lastOf.set(id, Math.max(attempt, lastOf.get(id) ?? 0))
  }
  const sum = (of: readonly Pick<UsageEvent, 'request_id' | 'attempt' | 'completion_tokens'>[]) =>
    of
      .filter(({ request_id: id, attempt }) => attempt === lastOf.get(id))
      .reduce((total, { completion_tokens: tokens }) => total + tokens, 0)
  return { journalTokens: sum(settled), ledgerTokens: sum(charges) }
}

function toDelivery({ visit, requestId, status, tokens, isWhole, toldTokens }: Reply): Delivery {
  return {
    number: visit.number,
    // Without its id a request is not to be found by what it asked: many ask the like.
    keyId: requestId === null ? '' : visit.tenant.keyId,
    promptTokens: visit.question.prompt.length,
    asked: { isStream: visit.isStream, tokens: visit.completionTokens, choices: 1 },
    ...{ requestId, status, tokens, isWhole, toldTokens },
  }
}
