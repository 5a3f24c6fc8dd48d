/** What single requests cost, for an edge that did not see their end. */
import { sql } from 'drizzle-orm'
import type { Db } from '../database.ts'

export interface Charge {
  readonly requestId: string
  /** The highest that there is an event of. */
  readonly attempt: number
  readonly amountPusd: bigint
}

/** Of those that have a usage event by now; the requests are the caller's own. */
export async function findCharges(db: Db, requestIds: readonly string[]): Promise<Charge[]> {
  if (requestIds.length === 0) return []
  const ids = JSON.stringify([...new Set(requestIds)])
  const result = await db.execute<{ request_id: string; attempt: number; amount: string }>(sql`
    select distinct on (event.request_id) event.request_id, event.attempt::integer,
      entry.amount_pusd::text as amount
    from usage_events event
    join ledger_entries entry on entry.id = event.request_id || '/' || event.attempt || '/usage'
    where event.request_id in (select jsonb_array_elements_text(${ids}::text::jsonb))
    order by event.request_id, event.attempt desc`)
  return result.rows.map(({ request_id: requestId, attempt, amount }) => ({
    requestId,
    attempt,
    amountPusd: BigInt(amount),
  }))
}
