/**
 * How many tokens a request will draw: the mean of its tenant's own of late, of all tenants' while
 * it has none, and never more than it may. Clients rarely come near their limit, so the limit alone
 * would make most requests look far dearer than they are. Pure.
 */
const TOKENS_ASSUMED = 128
const WEIGHT = 0.1
/** Whoever was heard of longest ago is forgotten. */
const TENANTS_MAX = 10_000

export class LengthEstimate {
  readonly #means = new Map<string, number>()
  #mean: number | null = null

  /** A choice ended by itself after `tokens`. */
  observe(tenantId: string, tokens: number): void {
    this.#mean = follow(this.#mean, tokens)
    const mean = follow(this.#means.get(tenantId) ?? null, tokens)
    this.#means.delete(tenantId)
    this.#means.set(tenantId, mean)
    if (this.#means.size <= TENANTS_MAX) return
    for (const oldest of this.#means.keys()) {
      this.#means.delete(oldest)
      return
    }
  }

  /** Tokens expected of a choice that may draw `tokensMax`, ≥ 1. */
  of(tenantId: string, tokensMax: number): number {
    const mean = this.#means.get(tenantId) ?? this.#mean ?? TOKENS_ASSUMED
    return Math.max(1, Math.min(tokensMax, Math.ceil(mean)))
  }
}

function follow(mean: number | null, value: number): number {
  return mean === null ? value : mean + WEIGHT * (value - mean)
}
