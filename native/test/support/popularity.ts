/**
 * Which adapter each of a step's requests wants, in the shapes that real traffic takes. Pure. Slots
 * count from 1; every shape but `identical` and `distinct` is mixed with requests for the base
 * alone.
 */
import type { Random } from './random.ts'

export const POPULARITIES = ['identical', 'distinct', 'uniform', 'skewed', 'zipf'] as const
export type Popularity = (typeof POPULARITIES)[number]

const BASE_SHARE = 0.2
/** Share of `skewed` requests that want the first adapter. */
const FAVOURITE_SHARE = 0.8

export function pickSlots(
  popularity: Popularity,
  requestCount: number,
  slotCount: number,
  random: Random,
): number[] {
  return Array.from({ length: requestCount }, (_, index) => {
    // Slot 0 takes its turn among the others.
    if (popularity === 'distinct') return index % (slotCount + 1)
    if (popularity !== 'identical' && random.fraction() < BASE_SHARE) return 0
    return pickAdapter(popularity, index, slotCount, random)
  })
}

/** The adapter, 1 … `adapterCount`, that request number `index` wants. */
export function pickAdapter(
  popularity: Popularity,
  index: number,
  adapterCount: number,
  random: Random,
): number {
  if (popularity === 'identical') return 1
  if (popularity === 'distinct') return 1 + (index % adapterCount)
  if (popularity === 'uniform') return 1 + random.integer(adapterCount)
  if (popularity === 'skewed') {
    return random.fraction() < FAVOURITE_SHARE ? 1 : 1 + random.integer(adapterCount)
  }
  return pickZipf(adapterCount, random)
}

/** Exponent 1. */
function pickZipf(slotCount: number, random: Random): number {
  let total = 0
  for (let slot = 1; slot <= slotCount; slot++) total += 1 / slot
  let rest = random.fraction() * total
  for (let slot = 1; slot < slotCount; slot++) {
    rest -= 1 / slot
    if (rest < 0) return slot
  }
  return slotCount
}
