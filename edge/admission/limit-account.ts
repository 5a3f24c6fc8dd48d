/**
 * One limit of one tenant or key, as this edge sees it: what it holds of it, and what it was last
 * told. An account decides from what it holds; the limiter asks the database when that is too
 * little. At most one question about an account is under way.
 */
import type { PortionAsk, PortionGrant } from '#db/queries/portions.ts'
import { ASK_VANISHED_MS, REFUSAL_KEPT_MS_MAX } from '../limits.ts'

export type LimitKind = PortionAsk['kind']

export interface Refusal {
  /** null = never, as long as the limit is what it is. */
  readonly retryAfterMs: number | null
  /**
   * What the month is charged in pico-USD, where that leaves too little of its budget, whatever
   * others give back; null = that is not why.
   */
  readonly spentPusd: bigint | null
}

/** A request whose use only the ledger will tell. */
export interface AwaitedRequest {
  readonly requestId: string
  /** The first that this edge made: its event, or a later one's, is the one that counts. */
  readonly attempt: number
  /** Monotonic. Its events are on their way from then on. */
  readonly endedMs: number
  /** Monotonic. If there is no event by then, there will be none. */
  readonly untilMs: number
}

/** What one request took; ended or left once, whichever way the request ends. */
export interface Hold {
  /** The spend lease that it is from; null = none. */
  readonly leaseId: string | null
  /** What the request really used goes, the rest comes back. */
  end(used: bigint): void
  /** What was used is not known here. */
  leave(request: AwaitedRequest): void
}

/** One that is under way. */
export interface Question {
  /** Monotonic. */
  readonly sinceMs: number
}

export abstract class LimitAccount {
  abstract readonly kind: LimitKind
  readonly scopeId: string
  limit: bigint
  /** When a request last had to do with it. */
  usedMs = 0
  #question: Question | null = null
  #refused: { readonly need: bigint; readonly untilMs: number; readonly refusal: Refusal } | null =
    null

  constructor(scopeId: string, limit: bigint) {
    this.scopeId = scopeId
    this.limit = limit
  }

  /** Takes of what is held here; null = that is too little. */
  abstract take(need: bigint, nowMs: number): Hold | null
  /** What to ask for, so that `need` can be taken. Gives back what lies idle. */
  abstract ask(need: bigint, nowMs: number): PortionAsk
  /** What an answer says, whether or not a request waits for it. */
  abstract learn(grant: PortionGrant): void
  /** Takes of what was granted, after `learn`; null = the grant is less than `need`. */
  abstract takeGranted(grant: PortionGrant, need: bigint, sentMs: number): Hold | null
  /** The question got no answer; it may have been heard. */
  abstract lost(): void
  /** Takes while the database is away; null = the allowance for that is used up. */
  abstract takeOffline(need: bigint, nowMs: number): Hold | null
  /** What is due without a request: things to give back, signs of life. null = nothing. */
  abstract upkeep(nowMs: number): PortionAsk | null
  /** Nothing is held, and nothing is owed to the database. */
  abstract isIdle(nowMs: number): boolean
  /** What could still be taken, as far as known here. */
  abstract remaining(nowMs: number): bigint

  /**
   * Whether a question is under way. One whose asker vanished, as a Worker's request does that
   * lasts too long, is lost after a while.
   */
  isAsking(nowMs: number): boolean {
    if (this.#question === null) return false
    if (nowMs - this.#question.sinceMs < ASK_VANISHED_MS) return true
    this.#question = null
    this.lost()
    return false
  }

  /** Call it when what `ask` or `upkeep` returned is sent. */
  asks(nowMs: number): Question {
    this.#question = { sinceMs: nowMs }
    return this.#question
  }

  /** False = it was given up meanwhile: its answer comes too late to be counted on. */
  isAskingFor(question: Question): boolean {
    return this.#question === question
  }

  /** Whether or not it was answered. */
  asked(question: Question): void {
    if (this.#question === question) this.#question = null
  }

  /** The answer to a question that was too much a moment ago holds for as much again. */
  refusalOf(need: bigint, nowMs: number): Refusal | null {
    const refused = this.#refused
    if (refused === null || nowMs >= refused.untilMs || need < refused.need) return null
    return refused.refusal
  }

  refuse(grant: PortionGrant, need: bigint, nowMs: number): Refusal {
    const { retryMs, isExhausted, spent } = grant
    const refusal = {
      retryAfterMs: retryMs === null ? null : this.retryAfter(Math.ceil(retryMs)),
      spentPusd: isExhausted ? spent : null,
    }
    const keptMs = Math.min(retryMs ?? REFUSAL_KEPT_MS_MAX, REFUSAL_KEPT_MS_MAX)
    this.#refused = { need, untilMs: nowMs + keptMs, refusal }
    return refusal
  }

  /** When to try again, where the database says `retryMs`. */
  protected retryAfter(retryMs: number): number {
    return retryMs
  }

  /** Something came back: what was refused a moment ago may be possible. */
  protected freed(): void {
    this.#refused = null
  }
}
