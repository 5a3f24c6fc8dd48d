/**
 * A tenant's random usage over months, models and price versions, and an independent recount of
 * what it costs and how an invoice should show it: plain TypeScript, no SQL, event by event.
 */
import { billingPeriodOf } from '../../billing-period.ts'
import type { Db } from '../../database.ts'
import { idTimeMs } from '../../ids.ts'
import { costOf, roundToCent, type TokenPrices } from '../../money.ts'
import { addPrice, listPrices } from '../../queries/prices.ts'
import type { UsageEvent } from '../../usage-event.ts'
import { addBaseModel, createEvent } from './records.ts'

/** Prices by id, for the recount. */
export type PriceBook = ReadonlyMap<string, TokenPrices>

export interface History {
  readonly events: readonly UsageEvent[]
  readonly prices: PriceBook
}

/**
 * Two base models with two price versions each, one that nobody priced; three models; every event
 * within `periods` (`YYYY-MM`). The numbers come from the seed.
 */
export async function createHistory(
  db: Db,
  tenantId: string,
  options: { readonly periods: readonly string[]; readonly count: number; readonly seed: number },
): Promise<History> {
  const random = createRandom(options.seed)
  const pick = <T>(items: readonly T[]): T => {
    const item = items[Math.floor(random() * items.length)]
    if (item === undefined) throw new Error('nothing to pick from')
    return item
  }
  const bases = [await addBaseModel(db), await addBaseModel(db)]
  const prices = new Map<string, TokenPrices>()
  for (const baseModel of bases) {
    await addPrice(db, {
      baseModel,
      promptPusd: 1_234_567n,
      cachedPromptPusd: 98_765n,
      completionPusd: 7_654_321n,
    })
    for (const price of await listPrices(db, { baseModel })) prices.set(price.id, price)
  }
  const priceIdsOf = async (baseModel: string) =>
    (await listPrices(db, { baseModel })).map(({ id }) => id)
  const priceIds = new Map(
    await Promise.all(bases.map(async (b) => [b, await priceIdsOf(b)] as const)),
  )
  const events = Array.from({ length: options.count }, () => {
    const base_model = pick([...bases, ...bases, 'nobody-priced-it'])
    const day = 1 + Math.floor(random() * 28)
    const hour = String(Math.floor(random() * 24)).padStart(2, '0')
    const prompt_tokens = Math.floor(random() * 4000)
    return createEvent(tenantId, {
      base_model,
      model: pick(['support-bot', 'support-bot@2', 'triage', base_model]),
      key_id: pick(['key_1', 'key_2', null]),
      price_version_id: pick(priceIds.get(base_model) ?? [null]),
      prompt_tokens,
      // Now and then a report that contradicts itself.
      cached_prompt_tokens: Math.floor(random() * 1.05 * prompt_tokens),
      completion_tokens: Math.floor(random() * 500),
      ended_at: `${pick(options.periods)}-${String(day).padStart(2, '0')}T${hour}:30:00.000Z`,
    })
  })
  return { events: events.map(withModelId), prices }
}

/** A model's id goes with its name; a base model has none. */
function withModelId(event: UsageEvent): UsageEvent {
  if (event.model === event.base_model) return { ...event, model_id: null }
  return { ...event, model_id: `mod_${event.model.split('@')[0]}` }
}

/** What one event costs; nothing without a known price. */
export function costOfEvent(event: UsageEvent, prices: PriceBook): bigint {
  const price = prices.get(event.price_version_id ?? '')
  if (price === undefined) return 0n
  return costOf(
    {
      promptTokens: event.prompt_tokens,
      cachedPromptTokens: event.cached_prompt_tokens,
      completionTokens: event.completion_tokens,
    },
    price,
  )
}

/** An invoice's line as the recount has it, as text that sorts. */
export function recountLines(events: readonly UsageEvent[], prices: PriceBook): string[] {
  const sums = new Map<string, bigint>()
  for (const event of events) {
    const month = billingPeriodOf(new Date(idTimeMs(event.request_id) ?? 0)).name
    const name = event.model === event.base_model ? event.model : event.model.split('@')[0]
    const cached = Math.min(event.cached_prompt_tokens, event.prompt_tokens)
    const kinds = [
      ['prompt', event.prompt_tokens - cached],
      ['cached_prompt', cached],
      ['completion', event.completion_tokens],
    ] as const
    for (const [kind, tokens] of kinds) {
      const key = [month, name, event.base_model, event.price_version_id, kind].join(' ')
      sums.set(key, (sums.get(key) ?? 0n) + BigInt(tokens))
    }
  }
  return [...sums]
    .filter(([, quantity]) => quantity !== 0n)
    .map(([key, quantity]) => {
      const [, , , priceId = '', kind] = key.split(' ')
      const exact = quantity * unitPrice(prices.get(priceId), kind)
      return [key, quantity, exact, roundToCent(exact)].join(' ')
    })
    .toSorted()
}

function unitPrice(prices: TokenPrices | undefined, kind: string | undefined): bigint {
  if (prices === undefined) return 0n
  if (kind === 'prompt') return prices.promptPusd
  return kind === 'completion' ? prices.completionPusd : prices.cachedPromptPusd
}

/** Mulberry32: the same numbers for the same seed. */
function createRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
