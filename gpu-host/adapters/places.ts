/**
 * A bounded number of places for work that takes memory or bandwidth. Who finds none waits; those
 * that somebody needs now go before those that somebody may need soon, else first come first
 * served. The latter never take the last place, so that they hold up nobody who needs one.
 */
export interface PlaceClaim {
  /** Read when a place becomes free, so a claim may gain urgency while it waits. */
  isUrgent: boolean
}

export class Places {
  #free: number
  readonly #reserved: number
  readonly #waiting: { readonly claim: PlaceClaim; readonly enter: () => void }[] = []

  constructor(count: number) {
    this.#free = count
    // Where there is one place only, what may be needed must come to it too.
    this.#reserved = count > 1 ? 1 : 0
  }

  /** Runs `work` as soon as there is a place, and gives the place back when it has settled. */
  async run<T>(claim: PlaceClaim, work: () => Promise<T>): Promise<T> {
    await new Promise<void>((enter) => {
      this.#waiting.push({ claim, enter })
      this.fill()
    })
    try {
      return await work()
    } finally {
      this.#free += 1
      this.fill()
    }
  }

  /** Lets in who may enter; to be called when a claim has become urgent. */
  fill(): void {
    while (this.#free > 0) {
      const urgent = this.#waiting.findIndex(({ claim }) => claim.isUrgent)
      if (urgent < 0 && this.#free <= this.#reserved) return
      const [next] = this.#waiting.splice(Math.max(0, urgent), 1)
      if (next === undefined) return
      this.#free -= 1
      next.enter()
    }
  }
}
