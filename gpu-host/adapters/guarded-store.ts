/**
 * A store that may hang, fail or be away for a while, made bearable: silence is cut short, and
 * after a failure the others are told at once instead of waiting each for its own. One read at a
 * time then tries whether the store is back, after pauses that grow.
 */
import type { Clock } from '../clock.ts'
import { HostError } from '../errors.ts'
import { errorText, type Log } from '../log.ts'
import type { AdapterStore } from './store-tier.ts'

export interface GuardedStoreOptions {
  readonly store: AdapterStore
  readonly clock: Clock
  readonly log: Log
  /** Told when the store is found to be away, and when it answers again. */
  readonly onChange?: (isAway: boolean) => void
}

/** Above what the S3 store takes for its own attempts until the first byte. */
const SILENCE_MS_MAX = 15_000
const PAUSE_MS_MIN = 1000
const PAUSE_MS_MAX = 15_000

/** A failed store: nobody asks before `untilMs`, then one does while the others are refused. */
interface Outage {
  untilMs: number
  pauseMs: number
  isProbed: boolean
}

export class GuardedStore implements AdapterStore {
  readonly #options: GuardedStoreOptions
  #outage: Outage | null = null

  constructor(options: GuardedStoreOptions) {
    this.#options = options
  }

  /** Rejects with `store_unavailable`, at once while the store is known to be away. */
  async get(digest: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | null> {
    const turn = this.#enter()
    const watch = new SilenceWatch(this.#options.clock, signal)
    try {
      const bytes = await watch.within(() => this.#options.store.get(digest, watch.signal))
      if (bytes !== null) return this.#read(bytes, watch, turn)
      turn.succeeded()
      watch.end()
      return null
    } catch (error) {
      watch.end()
      throw turn.failed(error, signal)
    }
  }

  /** Not held back by an outage: a deploy is rare, and learns of it by itself. */
  async put(digest: string, path: string): Promise<void> {
    try {
      await this.#options.store.put(digest, path)
    } catch (error) {
      throw unavailable(PAUSE_MS_MIN, error)
    }
  }

  async *#read(
    bytes: AsyncIterable<Uint8Array>,
    watch: SilenceWatch,
    turn: Turn,
  ): AsyncGenerator<Uint8Array, void, void> {
    const chunks = bytes[Symbol.asyncIterator]()
    try {
      for (;;) {
        const next = await watch.within(() => chunks.next())
        if (next.done) break
        turn.succeeded()
        yield next.value
      }
      turn.succeeded()
    } catch (error) {
      throw turn.failed(error, watch.caller)
    } finally {
      watch.end()
      turn.left()
      // Not awaited: it may hang, which is what this is for.
      chunks.return?.().catch(() => {})
    }
  }

  #enter(): Turn {
    const outage = this.#outage
    if (outage === null) return this.#turn(false)
    const waitMs = outage.untilMs - this.#options.clock.nowMs()
    if (waitMs > 0 || outage.isProbed) throw unavailable(Math.max(waitMs, PAUSE_MS_MIN))
    outage.isProbed = true
    return this.#turn(true)
  }

  #turn(isProbe: boolean): Turn {
    let isSettled = false
    const settle = (): void => {
      isSettled = true
      if (isProbe && this.#outage !== null) this.#outage.isProbed = false
    }
    return {
      succeeded: () => {
        if (isSettled) return
        settle()
        if (this.#outage === null) return
        this.#outage = null
        this.#options.log('info', 'the adapter store answers again')
        this.#options.onChange?.(false)
      },
      failed: (error, caller) => {
        settle()
        if (caller.aborted) return error
        return unavailable(this.#begin(error), error)
      },
      left: () => {
        if (!isSettled) settle()
      },
    }
  }

  /** Milliseconds until the next try. */
  #begin(error: unknown): number {
    const { clock, log } = this.#options
    const known = this.#outage
    const nowMs = clock.nowMs()
    // Those that were under way when it began say nothing new.
    if (known !== null && nowMs < known.untilMs) return known.untilMs - nowMs
    const pauseMs = known === null ? PAUSE_MS_MIN : Math.min(PAUSE_MS_MAX, known.pauseMs * 2)
    this.#outage = { untilMs: nowMs + pauseMs, pauseMs, isProbed: false }
    if (known === null) this.#options.onChange?.(true)
    const fields = { reason: errorText(error), next_try_ms: pauseMs }
    log('error', 'the adapter store does not answer: going on with what is on disk', fields)
    return pauseMs
  }
}

/** One read, from when it was let in. */
interface Turn {
  /** Told of each piece; only the first counts. */
  succeeded(): void
  /** What to throw. */
  failed(error: unknown, caller: AbortSignal): unknown
  /** The reader has gone, whatever came of it. */
  left(): void
}

/** Aborts what it watches when nothing moves while somebody waits, or when the caller leaves. */
class SilenceWatch {
  readonly caller: AbortSignal
  readonly #clock: Clock
  readonly #controller = new AbortController()

  constructor(clock: Clock, caller: AbortSignal) {
    this.caller = caller
    this.#clock = clock
    if (caller.aborted) this.#leave()
    else caller.addEventListener('abort', this.#leave, { once: true })
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** Rejects also when `step` hears no abort. */
  async within<T>(step: () => Promise<T>): Promise<T> {
    const { signal } = this
    const stopped = Promise.withResolvers<never>()
    const stop = (): void => stopped.reject(signal.reason)
    signal.addEventListener('abort', stop, { once: true })
    const cancel = this.#clock.setTimer(SILENCE_MS_MAX, () =>
      this.#controller.abort(new Error(`nothing came for ${SILENCE_MS_MAX} ms`)),
    )
    try {
      signal.throwIfAborted()
      return await Promise.race([step(), stopped.promise])
    } finally {
      cancel()
      signal.removeEventListener('abort', stop)
    }
  }

  end(): void {
    this.caller.removeEventListener('abort', this.#leave)
    this.#controller.abort()
  }

  readonly #leave = (): void => this.#controller.abort(this.caller.reason)
}

function unavailable(retryAfterMs: number, cause?: unknown): HostError {
  const message = 'the adapter store does not answer at the moment'
  return new HostError('store_unavailable', message, { retryAfterMs, cause })
}
