/**
 * A bounded number of places for work that takes memory or bandwidth. Who finds none waits; those
 * that somebody needs now go before those that somebody may need soon, else first come first
 * served.
 */
export interface PlaceClaim {
  /** Read when a place becomes free, so a claim may gain urgency while it waits. */
  isUrgent: boolean
}

export class Places {
  #free: number
  readonly #waiting: { readonly claim: PlaceClaim; readonly enter: () => void }[] = []

  constructor(count: number) {
    this.#free = count
  }

  get waiting(): number {
    return this.#waiting.length
  }

  /** Runs `work` as soon as there is a place, and gives the place back when it has settled. */
  async run<T>(claim: PlaceClaim, work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1
    else await new Promise<void>((enter) => this.#waiting.push({ claim, enter }))
    try {
      return await work()
    } finally {
      this.#leave()
    }
  }

  /** The one that leaves hands its place over, so that nobody slips in between. */
  #leave(): void {
    const urgent = this.#waiting.findIndex(({ claim }) => claim.isUrgent)
    const [next] = this.#waiting.splice(Math.max(0, urgent), 1)
    if (next === undefined) this.#free += 1
    else next.enter()
  }
}
