/**
 * Asks hosts how they are, over a connection of its own: the one question whose answer needs no
 * grant, no engine and no queue. Many streams may doubt a host at once; one of them asks, and the
 * others look what it learnt. They share values, never a promise: in workerd a request that waits
 * for another's call hangs when that one is cancelled. What a host says in any call is an answer,
 * too: a burst may hold the question up longer than a host that hangs is waited for.
 */
import { HOST_ROUTES } from '#protocol'
import type { EdgeMetrics } from '../metrics.ts'
import type { HostHealth, Life } from './host-health.ts'
import { ownTime } from './own-time.ts'

export interface ProbedHost {
  readonly hostId: string
  readonly url: string
}

export interface ProberOptions {
  readonly health: HostHealth
  readonly metrics: EdgeMetrics
  readonly fetch: typeof globalThis.fetch
  /** Monotonic. */
  readonly nowMs: () => number
  /** A host that says nothing for so long is dead. */
  readonly probeMs: number
}

interface Answers {
  askedMs: number
  /** Questions that were asked at or before then are answered. */
  knownMs: number
  life: Life
  /** When it last said something in a call. */
  heardMs: number
}

/** Questions of the pool's upkeep at once: all of a large pool may fall silent together. */
const UNDER_WAY_MAX = 64
/** Those that did not ask look again after so long. */
const LOOK_AGAIN_MS = 20

export class HostProber {
  readonly #options: ProberOptions
  readonly #answers = new Map<string, Answers>()
  /** When each question that has no answer yet was asked. */
  readonly #underWay = new Set<{ readonly askedMs: number }>()

  constructor(options: ProberOptions) {
    this.#options = options
  }

  /** Asks now, and tells the host's health. Never rejects; takes `probeMs` at most. */
  async probe(host: ProbedHost): Promise<Life> {
    const { health, metrics, nowMs } = this.#options
    const answers = this.#answersOf(host.hostId)
    const askedMs = nowMs()
    answers.askedMs = askedMs
    const question = { askedMs }
    this.#underWay.add(question)
    const answer = await this.#ask(host)
    this.#underWay.delete(question)
    const life = answer === 'dead' && answers.heardMs > askedMs ? 'well' : answer
    if (askedMs >= answers.knownMs) Object.assign(answers, { knownMs: askedMs, life })
    metrics.probes.add({ outcome: life })
    health.probed(host.hostId, life, askedMs)
    return life
  }

  /** It said something in a call. */
  heard(hostId: string): void {
    this.#answersOf(hostId).heardMs = this.#options.nowMs()
  }

  /** Whether it gave a sign of life after `sinceMs`, or gives one when it is asked now. */
  async isAliveSince(host: ProbedHost, sinceMs: number): Promise<boolean> {
    const answers = this.#answersOf(host.hostId)
    for (;;) {
      if (answers.heardMs > sinceMs) return true
      if (answers.knownMs > sinceMs) return answers.life !== 'dead'
      const isBeingAsked = answers.askedMs > sinceMs && this.#isAsking(host.hostId)
      if (!isBeingAsked) return (await this.probe(host)) !== 'dead'
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS))
    }
  }

  /** Whether it answered "well", or said something in a call, after `sinceMs`. */
  isWellSince(hostId: string, sinceMs: number): boolean {
    const answers = this.#answers.get(hostId)
    if (answers === undefined) return false
    const { life, knownMs, heardMs } = answers
    return heardMs > sinceMs || (life === 'well' && knownMs > sinceMs)
  }

  /** Whether somebody is asking now, or so many are asked that this one waits. */
  isBusyWith(hostId: string): boolean {
    return this.#isFull() || this.#isAsking(hostId)
  }

  #isFull(): boolean {
    if (this.#underWay.size < UNDER_WAY_MAX) return false
    for (const question of this.#underWay) {
      if (this.#hasVanished(question)) this.#underWay.delete(question)
    }
    return this.#underWay.size >= UNDER_WAY_MAX
  }

  /** Its asker is gone without a word, as a Worker's request goes with its client. */
  #hasVanished({ askedMs }: { readonly askedMs: number }): boolean {
    const { nowMs, probeMs } = this.#options
    return nowMs() - askedMs > 2 * probeMs
  }

  #isAsking(hostId: string): boolean {
    const answers = this.#answers.get(hostId)
    if (answers === undefined || answers.askedMs === answers.knownMs) return false
    return !this.#hasVanished(answers)
  }

  /** Forgets hosts that are not among these. */
  keep(hostIds: { has(hostId: string): boolean }): void {
    for (const hostId of this.#answers.keys()) {
      if (!hostIds.has(hostId)) this.#answers.delete(hostId)
    }
  }

  async #ask(host: ProbedHost): Promise<Life> {
    const { fetch, probeMs } = this.#options
    const controller = new AbortController()
    let life: Life | null = null
    const asking = fetch(new URL(HOST_ROUTES.health, host.url).href, {
      signal: controller.signal,
      redirect: 'manual',
    }).then(
      ({ status }) => {
        life = status === 200 ? 'well' : 'unwell'
      },
      () => {
        life = 'dead'
      },
    )
    await Promise.race([asking, ownTime(probeMs, () => life !== null)])
    controller.abort()
    return life ?? 'dead'
  }

  #answersOf(hostId: string): Answers {
    const known = this.#answers.get(hostId)
    if (known !== undefined) return known
    const never = Number.NEGATIVE_INFINITY
    const answers: Answers = { askedMs: never, knownMs: never, life: 'dead', heardMs: never }
    this.#answers.set(hostId, answers)
    return answers
  }
}
