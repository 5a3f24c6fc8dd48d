/**
 * How slow a peer may be: as it likes for a grace, and afterwards no slower than a floor, counted
 * in bytes. One rule for bodies that arrive and for replies that leave, at the edge as at the host:
 * a peer that trickles is as good as one that hangs, and a slow line is neither.
 */

export interface Pace {
  readonly graceMs: number
  readonly bytesPerSecond: number
}

/** Milliseconds within which `bytes` must have moved. */
export function timeFor({ graceMs, bytesPerSecond }: Pace, bytes: number): number {
  return graceMs + (bytes / bytesPerSecond) * 1000
}

export interface PaceWatchOptions {
  readonly pace: Pace
  /** Monotonic. */
  readonly nowMs: () => number
  /** Runs `look` once after `ms`; returns the cancel. */
  readonly setTimer: (ms: number, look: () => void) => () => void
  /** Called once. */
  readonly onSlow: () => void
}

/** Watches one transfer from now on; `end` it, however it ends. */
export class PaceWatch {
  readonly #options: PaceWatchOptions
  readonly #startMs: number
  #bytes = 0
  #cancel: () => void

  constructor(options: PaceWatchOptions) {
    this.#options = options
    this.#startMs = options.nowMs()
    this.#cancel = options.setTimer(options.pace.graceMs, this.#look)
  }

  moved(bytes: number): void {
    this.#bytes += bytes
  }

  end(): void {
    this.#cancel()
  }

  readonly #look = (): void => {
    const { pace, nowMs, setTimer, onSlow } = this.#options
    const restMs = timeFor(pace, this.#bytes) - (nowMs() - this.#startMs)
    if (restMs <= 0) onSlow()
    else this.#cancel = setTimer(Math.ceil(restMs), this.#look)
  }
}
