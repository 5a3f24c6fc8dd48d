/**
 * Finds out that a call to a host goes nowhere. Silence alone proves nothing, since a model may be
 * slow: after `doubtMs` the host is asked whether it lives. One that does not say so hangs; one
 * that does, and whose call stays silent, has a dead connection. A process that was itself stopped
 * or busy starts over, so that its own delay is never taken for the host's.
 *
 *     0 ── doubtMs: asked ── dead: verdict
 *                         └─ alive ── silenceMs (headersMs before the headers): verdict
 */
import type { HostPatience } from '../limits.ts'
import { ownTime, readPending } from './own-time.ts'

export interface SilenceWatchOptions {
  readonly patience: HostPatience
  /** Whether the host gave a sign of life after that time. Never rejects; takes `probeMs`. */
  readonly isAliveSince: (sinceMs: number) => Promise<boolean>
  /** The host said something here. */
  readonly onHeard: () => void
  /** Monotonic. */
  readonly nowMs: () => number
  /** Called once, when it is certain. */
  readonly onVerdict: (verdict: Error) => void
}

/** A timer that comes so much later says that this process was not running. */
const OWN_DELAY_MS = 100

export class SilenceWatch {
  readonly #options: SilenceWatchOptions
  #heardMs: number
  #pausedMs: number | null = null
  #hasBegun = false
  #hasEnded = false
  #timer: ReturnType<typeof setTimeout> | null = null

  /** Watches from now on. */
  constructor(options: SilenceWatchOptions) {
    this.#options = options
    this.#heardMs = options.nowMs()
    this.#doubtLater()
  }

  /** The reply's headers came: from now on the host says something all the time. */
  begun(): void {
    this.#hasBegun = true
    this.heard()
  }

  /** A whole frame or comment came: bytes alone may trickle for ever. */
  heard(): void {
    this.#heardMs = this.#options.nowMs()
    this.#options.onHeard()
  }

  /** Nobody listens to the host until `resume`: a slow client's time is not the host's. */
  pause(): void {
    this.#pausedMs = this.#options.nowMs()
  }

  resume(): void {
    if (this.#pausedMs === null) return
    this.#heardMs += this.#options.nowMs() - this.#pausedMs
    this.#pausedMs = null
  }

  end(): void {
    this.#hasEnded = true
    if (this.#timer !== null) clearTimeout(this.#timer)
  }

  #doubtLater(): void {
    const { nowMs, patience } = this.#options
    const { doubtMs } = patience
    const startMs = this.#pausedMs === null ? this.#heardMs : nowMs()
    this.#at(startMs + doubtMs, () => {
      if (this.#isSilentFor(doubtMs)) void this.#doubt()
      else this.#doubtLater()
    })
  }

  async #doubt(): Promise<void> {
    const { isAliveSince, patience, onVerdict } = this.#options
    const { doubtMs } = patience
    const limitMs = this.#hasBegun ? patience.silenceMs : patience.headersMs
    const isOver = () => this.#hasEnded || !this.#isSilentFor(doubtMs)
    // Beside the question, and not by the clock: this process may be starved meanwhile.
    const silence = ownTime(limitMs - doubtMs, isOver)
    // What others learnt of the host since this call should have said something counts, too.
    const isAlive = await isAliveSince(this.#heardMs + doubtMs / 2)
    await (isAlive ? silence : readPending())
    if (this.#hasEnded) return
    if (isOver()) return this.#doubtLater()
    const verdict = isAlive
      ? `the host lives, and said nothing here for ${limitMs} ms`
      : 'the host does not say that it lives'
    onVerdict(new Error(verdict))
  }

  #isSilentFor(ms: number): boolean {
    return this.#pausedMs === null && this.#options.nowMs() - this.#heardMs >= ms
  }

  /** Later by the time for which this process was away: what came meanwhile is read first. */
  #at(dueMs: number, callback: () => void): void {
    const { nowMs, patience } = this.#options
    // Timers may come a part of a millisecond early.
    const delayMs = Math.max(0, Math.ceil(dueMs - nowMs()) + 1)
    const wakeMs = nowMs() + delayMs
    this.#timer = setTimeout(() => {
      if (this.#hasEnded) return
      const lateMs = nowMs() - wakeMs
      if (lateMs < OWN_DELAY_MS) callback()
      else this.#at(nowMs() + Math.min(lateMs, patience.doubtMs), callback)
    }, delayMs)
  }
}
