/**
 * Usage counted a second time, by another way than the ledger's: in TypeScript, in bigint, straight
 * from the usage events and the prices, without an entry, a roll-up or a sum of the database's.
 */
import { sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import { costOf } from '../money.ts'
import { prices } from '../schema/prices.ts'

export interface Recount {
  /** Usage events read, superseded ones too. */
  events: number
  /** By `<tenant id> <model id> <key id>`. */
  sums: Map<string, RecountedSums>
}

export interface RecountedSums {
  requests: number
  promptTokens: number
  cachedPromptTokens: number
  completionTokens: number
  gpuUs: number
  costPusd: bigint
}

const PAGE = 50_000

type Row = {
  request_id: string
  attempt: number
  tenant_id: string
  model_id: string
  key_id: string | null
  base_model: string
  price_version_id: string | null
} & Record<'prompt_tokens' | 'cached_prompt_tokens' | 'completion_tokens' | 'gpu_us', string>

/** Reads every usage event once, in pages by id. */
export async function recountUsage(db: Db): Promise<Recount> {
  const known = await db.select().from(prices)
  const byId = new Map(known.map((price) => [price.id, price]))
  const newest = new Map(
    known.toSorted((a, b) => a.version - b.version).map((price) => [price.baseModel, price]),
  )
  const recount: Recount = { events: 0, sums: new Map() }
  let last: Row | null = null
  for (let after = ''; ; ) {
    const { rows }: { rows: readonly Row[] } = await db.execute<Row>(sql`
      select request_id, attempt, tenant_id, model_id, key_id, base_model, price_version_id,
        prompt_tokens, cached_prompt_tokens, completion_tokens, gpu_us
      from usage_events where request_id > ${after} order by request_id, attempt limit ${PAGE}`)
    // The last request of a full page may have more attempts on the next one.
    const cut = rows.length === PAGE ? rows.at(-1)?.request_id : undefined
    for (const row of rows) {
      if (row.request_id === cut) break
      recount.events += 1
      if (last !== null && last.request_id !== row.request_id) count(last)
      last = row
      after = row.request_id
    }
    if (cut === undefined) break
  }
  if (last !== null) count(last)
  return recount

  /** Of a request's attempts the last in order is the highest. */
  function count(row: Row): void {
    const named = byId.get(row.price_version_id ?? '')
    const price = named?.baseModel === row.base_model ? named : newest.get(row.base_model)
    const tokens = {
      promptTokens: Number(row.prompt_tokens),
      cachedPromptTokens: Number(row.cached_prompt_tokens),
      completionTokens: Number(row.completion_tokens),
    }
    const key = `${row.tenant_id} ${row.model_id} ${row.key_id}`
    const sums = recount.sums.get(key) ?? noSums()
    recount.sums.set(key, sums)
    sums.requests += 1
    sums.promptTokens += tokens.promptTokens
    sums.cachedPromptTokens += tokens.cachedPromptTokens
    sums.completionTokens += tokens.completionTokens
    sums.gpuUs += Number(row.gpu_us)
    sums.costPusd += price === undefined ? 0n : costOf(tokens, price)
  }
}

function noSums(): RecountedSums {
  return {
    requests: 0,
    promptTokens: 0,
    cachedPromptTokens: 0,
    completionTokens: 0,
    gpuUs: 0,
    costPusd: 0n,
  }
}
