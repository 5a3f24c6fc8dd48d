/**
 * Usage for a soak: the same events for the same seed, spread over one month, with what makes a
 * ledger's life hard: one tenant with a third of everything, second attempts, copies.
 */
import { randomBytes } from 'node:crypto'
import { timeSigns } from '../ids.ts'
import type { UsageEvent } from '../usage-event.ts'

export const SOAK_MONTH = { start: new Date('2026-11-01'), end: new Date('2026-12-01') }
export const BIG_TENANT = 'ten_big'
export const BASE_MODELS = ['base-a', 'base-b', 'base-c']

const TENANTS = 50
const MODELS_PER_TENANT = 5
const KEYS_PER_TENANT = 3
/** Of requests, those whose first host died: two attempts, of which the second is charged. */
const RETRIED_SHARE = 0.005
const BIG_TENANT_SHARE = 0.3

export interface SampleOptions {
  readonly seed: number
  /** How many cover the month; they come in the order of time, but for those that are late. */
  readonly events: number
  /** Price id → its base model; some events name one. */
  readonly prices: readonly { readonly id: string; readonly baseModel: string }[]
}

/** Of events, those that a host could deliver only later, by up to two days. */
const LATE_SHARE = 0.02
const LATE_MS_MAX = 48 * 3_600_000

/** Endless. Ids are unique in all runs; everything else follows from the seed. */
export function* sampleUsage({ seed, events, prices }: SampleOptions): Generator<UsageEvent> {
  const random = mulberry32(seed)
  const below = (bound: number) => Math.floor(random() * bound)
  const monthMs = SOAK_MONTH.end.getTime() - SOAK_MONTH.start.getTime()
  const run = randomBytes(3).toString('hex')
  for (let number = 0; ; number++) {
    const isBig = random() < BIG_TENANT_SHARE
    const tenant_id = isBig ? BIG_TENANT : `ten_${below(TENANTS)}`
    const model = below(MODELS_PER_TENANT)
    const base_model = BASE_MODELS[model % BASE_MODELS.length] ?? ''
    const promised = prices[below(prices.length)]
    const share = (number % events) / events
    const lateMs = random() < LATE_SHARE ? below(LATE_MS_MAX) : 0
    const atMs = SOAK_MONTH.start.getTime() + Math.max(0, Math.floor(share * monthMs) - lateMs)
    const version = share < 0.5 ? 1 : 2
    const prompt_tokens = below(4000)
    const event: UsageEvent = {
      request_id: `req_${timeSigns(atMs)}${run}${timeSigns(number)}`,
      attempt: 1,
      tenant_id,
      key_id: below(20) === 0 ? null : `key_${tenant_id}_${below(KEYS_PER_TENANT)}`,
      model: `bot-${model}${below(2) === 0 ? `@${version}` : ''}`,
      model_id: `mod_${tenant_id}_${model}`,
      adapter_version_id: `ver_${tenant_id}_${model}_${version}`,
      adapter_digest: `sha256:${'a'.repeat(64)}`,
      adapter_bytes: 9_800_000,
      base_model,
      price_version_id: promised?.baseModel === base_model ? promised.id : null,
      lease_ids: [],
      host_id: `hst_${below(8)}`,
      epoch: 1,
      prompt_tokens,
      cached_prompt_tokens: below(prompt_tokens + 1),
      completion_tokens: below(1000),
      finish_reason: 'stop',
      gpu_us: below(2_000_000),
      queue_us: below(50_000),
      ttft_us: below(500_000),
      swap_us: below(10) === 0 ? below(80_000) : 0,
      adapter_source: 'slot',
      started_at: new Date(atMs).toISOString(),
      ended_at: new Date(atMs + below(60_000)).toISOString(),
      source: 'engine',
    }
    yield event
    if (random() < RETRIED_SHARE) {
      const completion_tokens = event.completion_tokens + below(100)
      yield { ...event, attempt: 2, host_id: 'hst_8', completion_tokens }
    }
  }
}

/** A small generator of numbers in [0, 1) that a seed starts anew. */
function mulberry32(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
