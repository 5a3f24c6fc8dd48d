/**
 * Tenants of a SchedulerRig on virtual time: each asks at its own pace, or always has so many
 * requests waiting, and counts for itself what it was given.
 */
import { HostError } from '../../errors.ts'
import type { GenerateRequest } from '../../protocol.ts'
import type { SchedulerRig } from './scheduler-rig.ts'
import { createRequest } from './test-host.ts'

export interface TenantPlan {
  readonly id: string
  readonly weight?: number
  /** Of the next request. */
  readonly next: () => Partial<GenerateRequest>
}

export class TenantTraffic {
  readonly id: string
  tokens = 0
  finished = 0
  failed = 0
  /** Retry hints of those that were refused, milliseconds. */
  readonly refusals: number[] = []
  /** Of each that was answered: when it was asked for, and its first token. */
  readonly firstTokens: { readonly askedMs: number; readonly ttftMs: number }[] = []
  readonly #rig: SchedulerRig
  readonly #plan: TenantPlan
  #open = 0

  constructor(rig: SchedulerRig, plan: TenantPlan) {
    this.id = plan.id
    this.#rig = rig
    this.#plan = plan
  }

  /** False = it was refused. */
  ask(onEnd: () => void = () => {}): boolean {
    const { scheduler, clock } = this.#rig
    if (scheduler.isDraining) return false
    const askedMs = clock.nowUs() / 1000
    const { id: tenant_id, weight: tenant_weight = 1, next } = this.#plan
    const request = createRequest({ tenant_id, tenant_weight, ignore_eos: true, ...next() })
    try {
      const generation = scheduler.submit(request)
      this.#open += 1
      void this.#read(generation, askedMs).then(() => {
        this.#open -= 1
        onEnd()
      })
      return true
    } catch (error) {
      if (!(error instanceof HostError) || error.code !== 'queue_full') throw error
      this.refusals.push(error.retryAfterMs ?? Number.NaN)
      return false
    }
  }

  /** Has `count` requests at the host, from now on. */
  keepBusy(count: number): void {
    const again = (): void => {
      while (this.#open < count && this.ask(again)) {}
    }
    again()
  }

  /** Asks at random times, `perSecond` in the mean, until `untilMs` of the rig's clock. */
  askAtRandom(perSecond: number, untilMs: number, random: () => number): void {
    const { clock } = this.#rig
    const gapMs = (-Math.log(1 - random()) * 1000) / perSecond
    if (clock.nowUs() / 1000 + gapMs > untilMs) return
    clock.setTimer(gapMs, () => {
      this.ask()
      this.askAtRandom(perSecond, untilMs, random)
    })
  }

  ttftsBetween(fromMs: number, toMs: number): number[] {
    const asked = this.firstTokens.filter(({ askedMs }) => askedMs >= fromMs && askedMs < toMs)
    return asked.map(({ ttftMs }) => ttftMs).sort((a, b) => a - b)
  }

  async #read(
    generation: ReturnType<SchedulerRig['scheduler']['submit']>,
    askedMs: number,
  ): Promise<void> {
    let isFirst = true
    for (let event = await generation.next(); event !== null; event = await generation.next()) {
      if (event.type === 'error') this.failed += 1
      if (event.type === 'end') this.finished += 1
      if (event.type !== 'chunk') continue
      if (isFirst) {
        const ttftMs = this.#rig.clock.nowUs() / 1000 - askedMs
        this.firstTokens.push({ askedMs, ttftMs })
      }
      isFirst = false
      this.tokens += event.tokens
    }
  }
}
