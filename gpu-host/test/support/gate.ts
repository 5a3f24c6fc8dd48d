/** Holds the fake engine's steps until the test lets them go, one by one or all. */
export class Gate {
  #permits = 0
  #waiting: (() => void)[] = []

  readonly pass = async (): Promise<void> => {
    if (this.#permits > 0) {
      this.#permits -= 1
      return
    }
    await new Promise<void>((resolve) => this.#waiting.push(resolve))
  }

  /** Lets the next `count` steps run. */
  open(count = Number.POSITIVE_INFINITY): void {
    this.#permits += count
    while (this.#permits > 0 && this.#waiting.length > 0) {
      this.#permits -= 1
      this.#waiting.shift()?.()
    }
  }
}
