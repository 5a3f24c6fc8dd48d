/**
 * The pool's time: the database's clock, as this edge knows it. Request ids, and with them the
 * period that a request is billed in, and all that edges tell each other are dated by it, so an
 * edge whose own clock is wrong dates nothing wrong. Between two measurements it goes on with the
 * monotonic clock; while the database is away, with the last offset; before the first measurement,
 * with the machine's clock.
 */
import { withinTime } from '#db/within-time.ts'
import { errorText } from './errors.ts'
import {
  CLOCK_INTERVAL_MS,
  CLOCK_JUMP_MS,
  CLOCK_OFFSET_MS_MAX,
  CLOCK_RETRY_MS,
  CLOCK_SAMPLES,
  LOOKUP_WAIT_MS,
} from './limits.ts'
import type { Log } from './log.ts'

export interface PoolClockOptions {
  /** The database's time, Unix milliseconds. */
  readonly readMs: () => Promise<number>
  /** The machine's clock, Unix milliseconds. */
  readonly wallMs: () => number
  readonly monotonicMs: () => number
  readonly log: Log
}

interface Step {
  /** The database's clock minus the monotonic one. */
  readonly offsetMs: number
  /** Half of the round trip: the offset is right within this. */
  readonly errorMs: number
}

export class PoolClock {
  readonly #options: PoolClockOptions
  #step: Step | null = null
  #dueMs = Number.NEGATIVE_INFINITY
  /** The machine's clock minus the monotonic one when last measured: it changes by a jump. */
  #wallOffsetMs: number
  #isOffReported = false

  constructor(options: PoolClockOptions) {
    this.#options = options
    this.#wallOffsetMs = this.#wallOffset()
  }

  /** Unix milliseconds, an integer. */
  readonly nowMs = (): number => {
    const { wallMs, monotonicMs } = this.#options
    if (this.#step === null) return wallMs()
    return Math.floor(monotonicMs() + this.#step.offsetMs)
  }

  /** The pool's time minus the machine's; null before the first measurement. */
  offsetMs(): number | null {
    return this.#step === null ? null : this.nowMs() - this.#options.wallMs()
  }

  /** Measures when it is time to. Never rejects, nor takes longer than CLOCK_SAMPLES seconds. */
  async keepInStep(): Promise<void> {
    const { monotonicMs, log } = this.#options
    const hasJumped = Math.abs(this.#wallOffset() - this.#wallOffsetMs) > CLOCK_JUMP_MS
    if (monotonicMs() < this.#dueMs && !hasJumped) return
    // Also the sign that somebody is at it.
    this.#dueMs = monotonicMs() + CLOCK_RETRY_MS
    this.#wallOffsetMs = this.#wallOffset()
    try {
      this.#step = await this.#measure()
      this.#dueMs = monotonicMs() + CLOCK_INTERVAL_MS
      this.#report(this.#step)
    } catch (error) {
      log('warn', 'the time was not read from the database', { reason: errorText(error) })
    }
  }

  /** The median of a few: one that a busy machine held up would be far off. */
  async #measure(): Promise<Step> {
    const steps: Step[] = []
    while (steps.length < CLOCK_SAMPLES) steps.push(await this.#sample())
    steps.sort((a, b) => a.offsetMs - b.offsetMs)
    const median = steps[Math.floor(steps.length / 2)]
    if (median === undefined) throw new RangeError('a median of nothing')
    return median
  }

  async #sample(): Promise<Step> {
    const { readMs, monotonicMs } = this.#options
    const startMs = monotonicMs()
    const databaseMs = await withinTime(readMs(), LOOKUP_WAIT_MS)
    if (databaseMs === null) throw new Error(`no answer within ${LOOKUP_WAIT_MS} ms`)
    const errorMs = (monotonicMs() - startMs) / 2
    return { offsetMs: databaseMs - (startMs + errorMs), errorMs }
  }

  /** Once when the machine's clock is found wrong, once when it is right again. */
  #report({ errorMs }: Step): void {
    const offsetMs = this.offsetMs() ?? 0
    const isOff = Math.abs(offsetMs) > CLOCK_OFFSET_MS_MAX + errorMs
    if (isOff === this.#isOffReported) return
    this.#isOffReported = isOff
    const fields = { offset_ms: offsetMs, error_ms: Math.ceil(errorMs) }
    const { log } = this.#options
    const fix = 'set the clock of this machine; requests are dated by the database'
    if (isOff) log('error', "the machine's clock is not the database's", { ...fields, fix })
    else log('info', "the machine's clock is right again", fields)
  }

  #wallOffset(): number {
    return this.#options.wallMs() - this.#options.monotonicMs()
  }
}
