/**
 * Usage as hosts settle it over some weeks, and the ways in which it may arrive: in order and once,
 * or doubled, late, out of order, in batches of any size, under hosts whose clocks are wrong.
 * Seeded: the same seed gives the same events and the same arrivals.
 */
import { timeSigns } from '../../ids.ts'
import type { UsageEvent } from '../../usage-event.ts'
import { createEvent } from './records.ts'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS
const DELAY_MS_MAX = 48 * HOUR_MS
const BATCH_MAX = 40
/** Months, days and hours begin here, so that a wrong clock would move usage between periods. */
const BORDERS_MS = [Date.UTC(2026, 10, 1), Date.UTC(2026, 10, 15), Date.UTC(2026, 11, 1)]

export interface Clocks {
  /** What a host's clock is ahead of the true one, by host; behind where negative. */
  readonly aheadMs: readonly number[]
  /** Sets each of them back by this, half way through. */
  readonly jumpBackMs: number
}

export const TRUE_CLOCKS: Clocks = { aheadMs: [0, 0, 0], jumpBackMs: 0 }
export const WRONG_CLOCKS: readonly Clocks[] = [
  { aheadMs: [DAY_MS, -DAY_MS, 0], jumpBackMs: 0 },
  { aheadMs: [5 * MINUTE_MS, -5 * MINUTE_MS, 1], jumpBackMs: 0 },
  { aheadMs: [DAY_MS, 0, 5 * MINUTE_MS], jumpBackMs: 2 * DAY_MS },
]

/** Fractions 0 ≤ x < 1; the same for the same seed (mulberry32). */
export function createDraw(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let x = Math.imul(state ^ (state >>> 15), 1 | state)
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32
  }
}

export interface UsageWish {
  readonly seed: number
  readonly count: number
  readonly baseModel: string
  readonly tenantId: string
  /** Tells the requests of one run from those of another; eight characters of an id. */
  readonly tag: string
  readonly clocks: Clocks
}

/** In the order in which they were settled; one request in seven was tried a second time. */
export function settleUsage(wish: UsageWish): UsageEvent[] {
  const { seed, count, baseModel, tenantId, tag, clocks } = wish
  const draw = createDraw(seed)
  const upTo = (max: number) => Math.floor(draw() * (max + 1))
  const events: UsageEvent[] = []
  for (let i = 0; i < count; i++) {
    const border = BORDERS_MS[upTo(BORDERS_MS.length - 1)] ?? 0
    const madeMs = border + upTo(3 * HOUR_MS) - 1.5 * HOUR_MS
    const version = upTo(3)
    const prompt = upTo(3000)
    const attempts = draw() < 1 / 7 ? 2 : 1
    for (let attempt = 1; attempt <= attempts; attempt++) {
      const host = upTo(clocks.aheadMs.length - 1)
      const isLater = i > count / 2
      const readMs = (ms: number) =>
        ms + (clocks.aheadMs[host] ?? 0) - (isLater ? clocks.jumpBackMs : 0)
      const startedMs = madeMs + upTo(200)
      events.push(
        createEvent(tenantId, {
          request_id: `req_${timeSigns(madeMs)}${tag}${String(i).padStart(8, '0')}`,
          attempt,
          base_model: baseModel,
          key_id: draw() < 0.1 ? null : `key_${upTo(2)}`,
          model: version === 0 ? baseModel : `bot@${version}`,
          model_id: version === 0 ? null : 'mod_1',
          adapter_version_id: version === 0 ? null : `ver_${version}`,
          host_id: `hst_${host}`,
          prompt_tokens: prompt,
          cached_prompt_tokens: draw() < 0.5 ? 0 : upTo(prompt),
          completion_tokens: draw() < 0.1 ? 0 : upTo(2000),
          gpu_us: upTo(5_000_000),
          swap_us: draw() < 0.8 ? 0 : upTo(50_000),
          started_at: new Date(readMs(startedMs)).toISOString(),
          ended_at: new Date(readMs(startedMs + upTo(20_000))).toISOString(),
        }),
      )
    }
  }
  return events
}

/**
 * Batches in order of arrival: every event at least once and half of them twice, each copy up to
 * 48 hours late.
 */
export function deliverBadly(events: readonly UsageEvent[], seed: number): UsageEvent[][] {
  const draw = createDraw(seed)
  const hourMs = (i: number) => (i / events.length) * 24 * HOUR_MS
  const copies = events.flatMap((event, i) =>
    Array.from({ length: draw() < 0.5 ? 2 : 1 }, () => ({
      event,
      // Most are hardly late; without a mixture, no order would be left at all.
      arrivesMs: hourMs(i) + (draw() < 0.6 ? draw() * MINUTE_MS : draw() * DELAY_MS_MAX),
    })),
  )
  copies.sort((a, b) => a.arrivesMs - b.arrivesMs)
  const batches: UsageEvent[][] = []
  for (let start = 0; start < copies.length; ) {
    const end = start + 1 + Math.floor(draw() * BATCH_MAX)
    batches.push(copies.slice(start, end).map(({ event }) => event))
    start = end
  }
  return batches
}
