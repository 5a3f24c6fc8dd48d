/**
 * What a database says was charged, read with plain SQL: no query of ours vouches for itself.
 */
import { sql } from 'drizzle-orm'
import { z } from 'zod'
import { type Db, openDatabase } from '../../db/client.ts'

const row = z.object({
  request_id: z.string(),
  key_id: z.string().nullable(),
  attempt: z.coerce.number().int(),
  prompt_tokens: z.coerce.number().int(),
  completion_tokens: z.coerce.number().int(),
  /** What its ledger entries come to, reversals taken off. */
  net_pusd: z.coerce.bigint(),
  /** What the event comes to at the price that the ledger names. */
  worth_pusd: z.coerce.bigint(),
})
export type Charge = z.infer<typeof row>

/** Events of the tenant with what the ledger made of each. */
export async function readCharges(db: Db, tenantId: string): Promise<Charge[]> {
  const { rows } = await db.execute(sql`
      with entries as (
        select request_id, attempt, max(price_id) as price_id,
          sum(case kind when 'usage' then amount_pusd else -amount_pusd end) as net_pusd
        from ledger_entries
        where tenant_id = ${tenantId}
        group by request_id, attempt
      )
      select event.request_id, event.key_id, event.attempt, event.prompt_tokens,
        event.completion_tokens, coalesce(entry.net_pusd, 0) as net_pusd,
        (event.prompt_tokens - event.cached_prompt_tokens)::numeric * price.prompt_pusd
          + event.cached_prompt_tokens::numeric * price.cached_prompt_pusd
          + event.completion_tokens::numeric * price.completion_pusd as worth_pusd
      from usage_events event
      left join entries entry
        on entry.request_id = event.request_id and entry.attempt = event.attempt
      left join prices price on price.id = entry.price_id
      where event.tenant_id = ${tenantId}`)
  return z.array(row).parse(rows)
}

/** The same over a connection of its own. */
export async function readChargesAt(url: string, tenantId: string): Promise<Charge[]> {
  const database = await openDatabase(url)
  try {
    return await readCharges(database.db, tenantId)
  } finally {
    await database.close()
  }
}
