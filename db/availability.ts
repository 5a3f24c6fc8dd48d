/**
 * Whether a database answers. Every statement of a watched driver runs through `run`: while the
 * database is known to be away, it fails at once instead of queueing, and a statement that waits
 * for a database which turns out to hang is given up. What finds out is a probe, the smallest
 * statement there is, on a connection of its own: a statement may be slow for reasons of its own,
 * and one broken connection is not a database that is down. No timers run while nobody asks, and
 * only values are kept, so it serves in a Worker too. No node: imports.
 */
import { DatabaseError, isOutage, sqlState } from './errors.ts'
import { withinTime } from './within-time.ts'

/** A statement that takes longer makes the database be asked whether it is there. */
const SLOW_MS = 1000
/** A probe without an answer within this time says that the database is away. */
const PROBE_MS_MAX = 2000
const FOREVER_MS = 2 ** 31 - 1
/** Time from one probe to the next. */
const PROBE_INTERVAL_MS = 1000

export interface AvailabilityOptions {
  /** Resolves when the database answered; rejects or hangs when it does not. */
  readonly probe: () => Promise<unknown>
  /**
   * false = a slow answer says nothing: the database is in this process, and statements wait for
   * each other alone.
   */
  readonly canHang?: boolean
  /** Monotonic milliseconds. */
  readonly nowMs?: () => number
  /** Called when the database went away, before anything else is tried. */
  readonly onDown?: () => void
}

/** Told of each change: `downForMs` is null when the database answers again. */
export type AvailabilityListener = (isUp: boolean, downForMs: number) => void

export class Availability {
  readonly #options: AvailabilityOptions
  readonly #nowMs: () => number
  readonly #listeners: AvailabilityListener[] = []
  #hasAnswered = false
  #downSinceMs: number | null = null
  #probedMs = Number.NEGATIVE_INFINITY

  constructor(options: AvailabilityOptions) {
    this.#options = options
    this.#nowMs = options.nowMs ?? (() => performance.now())
  }

  /**
   * Milliseconds since the database was noticed to be away; null while it answers. Infinite when it
   * never answered.
   */
  downForMs(): number | null {
    if (this.#downSinceMs === null) return null
    return this.#hasAnswered ? this.#nowMs() - this.#downSinceMs : Number.POSITIVE_INFINITY
  }

  listen(listener: AvailabilityListener): void {
    this.#listeners.push(listener)
  }

  /**
   * Runs a statement. Throws a DatabaseError `database_unavailable` when the database does not
   * answer; whatever else the statement throws is passed on. A statement that was given up may
   * still take effect when the database comes back.
   */
  async run<T>(statement: () => Promise<T>): Promise<T> {
    if (this.#downSinceMs !== null) {
      void this.#probeIfDue()
      throw unavailable('it did not answer a moment ago')
    }
    try {
      // Some drivers send a statement with each `then`: here it is called once.
      const answer = (async () => statement())()
      const result = await (this.#options.canHang === false ? answer : this.#watch(answer))
      this.#hasAnswered = true
      return result
    } catch (error) {
      if (isAnswer(error)) throw error
      void this.#probeIfDue()
      throw isOutage(error) ? error : unavailable('it was not reached', error)
    }
  }

  /** Waits for the answer for as long as probes are answered meanwhile. */
  async #watch<T>(answer: Promise<T>): Promise<T> {
    const settled = answer.then(
      () => true,
      () => true,
    )
    while ((await withinTime(settled, SLOW_MS)) === null) {
      await Promise.race([settled, this.#probeIfDue()])
      if (this.#downSinceMs !== null) throw unavailable('it hangs')
    }
    return answer
  }

  /** Never rejects. */
  async #probeIfDue(): Promise<void> {
    const startMs = this.#nowMs()
    if (startMs - this.#probedMs < PROBE_INTERVAL_MS) return
    this.#probedMs = startMs
    let isUp: boolean
    try {
      const answered = this.#options.probe().then(() => true)
      // Given up after its time, it may still fail.
      answered.catch(() => {})
      const limitMs = this.#options.canHang === false ? FOREVER_MS : PROBE_MS_MAX
      isUp = (await withinTime(answered, limitMs)) !== null
    } catch (error) {
      isUp = isAnswer(error)
    }
    if (isUp) this.#up()
    else this.#down(startMs)
  }

  #up(): void {
    this.#hasAnswered = true
    if (this.#downSinceMs === null) return
    const downForMs = this.#nowMs() - this.#downSinceMs
    this.#downSinceMs = null
    for (const tell of this.#listeners) tell(true, downForMs)
  }

  #down(sinceMs: number): void {
    if (this.#downSinceMs !== null) return
    this.#downSinceMs = sinceMs
    this.#options.onDown?.()
    for (const tell of this.#listeners) tell(false, 0)
  }
}

/** The same function, its statements watched. Overloads survive, which no type can say for it. */
export function watch<F extends (...parameters: never[]) => Promise<unknown>>(
  availability: Availability,
  query: F,
): F {
  const watched = (...parameters: Parameters<F>) => availability.run(() => query(...parameters))
  return watched as F
}

/** A refusal by a database that is there, or a mistake in the code that made the statement. */
function isAnswer(error: unknown): boolean {
  if (error instanceof TypeError || error instanceof RangeError) return true
  return sqlState(error) !== null && !isOutage(error)
}

function unavailable(reason: string, cause?: unknown): DatabaseError {
  return new DatabaseError('database_unavailable', `the database does not answer: ${reason}`, cause)
}
