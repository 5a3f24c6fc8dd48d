/**
 * From acceptance to start, whatever runs the requests: the queue in its fair order, the adapters
 * that its requests wait for, the reckoning that lets them in, and who starts now. What a start
 * means is its owner's business.
 */
import type { GenerateRequest } from '../protocol.ts'
import type { Prompt } from '../text/prompt.ts'
import { AdapterReadiness, type AdapterRequest } from './adapter-readiness.ts'
import { Admission } from './admission.ts'
import { AdmissionControl, type ControlOptions } from './admission-control.ts'
import type { Choice, SequenceState } from './choice.ts'
import { toEndOrder } from './end-order.ts'
import type { LiveRequest } from './live-request.ts'
import { LiveRequests, type LiveRequestsOptions } from './live-requests.ts'
import type { Generation, SchedulerLoad, WaitingTenant } from './request-runner.ts'
import type { RunnerParts } from './scheduler-options.ts'
import { pickStarts } from './swap-policy.ts'

/** A choice as the line sees it. */
export interface Starter extends Choice, AdapterRequest {
  state: SequenceState
  /** Since when a slot was missing; null = it was not. */
  blockedSinceUs: number | null
  /** Rows that it may still run before it ends. */
  readonly rowsLeftMax: number
}

/** What the queue goes by until the sequence has run. */
export interface SequenceEstimate {
  /** Tokens that it will draw. */
  readonly expectedTokens: number
  /** What a token of its prompt costs, in tokens drawn. */
  readonly promptCost: number
}

/** What a choice is made of. */
export interface StarterInput<C extends Choice> {
  readonly owner: LiveRequest<C>
  readonly choice: number
  readonly acceptedUs: number
  readonly estimate: SequenceEstimate
  /** Called once, when the sequence leaves the queue. */
  readonly leaveQueue: () => void
}

export interface StartLineOptions<C extends Starter>
  extends Omit<ControlOptions<C>, 'queue' | 'limits' | 'nowMs'>,
    Pick<LiveRequestsOptions<C>, 'onSettled' | 'wake'> {
  readonly parts: RunnerParts
  /** Adapters that may run at once. */
  readonly slotCount: number
  readonly promptCost: () => number
  readonly create: (input: StarterInput<C>) => C
}

const CANDIDATES_MAX = 64
/** Of nobody: a newcomer's wait is asked for in its name. */
const NO_TENANT = ''

export class StartLine<C extends Starter> {
  readonly queue: Admission<C>
  readonly requests: LiveRequests<C>
  readonly #options: StartLineOptions<C>
  readonly #control: AdmissionControl<C>
  readonly #readiness: AdapterReadiness<C>

  constructor(options: StartLineOptions<C>) {
    const { parts } = options
    this.#options = options
    this.queue = new Admission(parts.limits)
    this.#readiness = new AdapterReadiness(parts.adapters, this.queue, {
      onReady: options.wake,
      onFailed: (digest, error) => this.#fail(digest, error),
    })
    this.#control = new AdmissionControl({
      ...{ ...options, limits: parts.limits, queue: this.queue },
      nowMs: () => parts.clock.nowUs() / 1000,
    })
    this.requests = new LiveRequests({
      ...parts,
      queue: this.queue,
      control: this.#control,
      createChoice: (owner, choice, acceptedUs) => this.#create(owner, choice, acceptedUs),
      onSettled: options.onSettled,
      wake: options.wake,
    })
  }

  /** Writes the request down and queues its choices. Throws `journal_full`. */
  accept(request: GenerateRequest, prompt: Prompt): Generation {
    const { adapter_digest: digest } = request
    const source = digest === null ? 'none' : this.#options.parts.adapters.locate(digest)
    const generation = this.requests.accept({ request, prompt, source })
    this.#readiness.fetch()
    this.#options.wake()
    return generation
  }

  /** The choices that start now, taken out of the queue. */
  start(sequencesFree: number): C[] {
    const { parts, slotCount, sequenceCount } = this.#options
    const nowUs = parts.clock.nowUs()
    const { starts, blocked } = pickStarts(
      this.#readiness.ready(CANDIDATES_MAX).map((choice) => ({
        request: choice,
        digest: choice.digest,
        blockedMs: (nowUs - (choice.blockedSinceUs ?? nowUs)) / 1000,
      })),
      {
        pinned: this.pinned(),
        slotCount,
        sequencesFree,
        slotWaitMaxMs: parts.limits.slotWaitMaxMs,
      },
      ({ tenantId, weight }, starting) =>
        this.queue.reservedFrom(tenantId, weight, sequenceCount, starting),
    )
    for (const choice of blocked) choice.blockedSinceUs ??= nowUs
    for (const choice of starts) {
      this.queue.start(choice)
      this.#control.started(choice, nowUs)
      choice.leaveQueue()
      choice.state = 'starting'
    }
    return [...starts]
  }

  /** For when nothing can start: the next adapters use the time to get into slots. */
  stage(): void {
    this.#readiness.stage()
  }

  /** Its choice ends: out of the queue, or off the books of those that run. */
  end(choice: C): void {
    if (choice.state === 'queued') {
      this.queue.remove(choice)
      choice.leaveQueue()
      return
    }
    this.queue.end(choice)
    this.#control.ended(choice, this.#options.parts.clock.nowUs())
  }

  /** Adapters that running and starting requests pin, with the most rows that one has left. */
  pinned(): Map<string, number> {
    const pinned = new Map<string, number>()
    for (const { digest, rowsLeftMax } of this.#options.running()) {
      if (digest !== null) pinned.set(digest, Math.max(pinned.get(digest) ?? 0, rowsLeftMax))
    }
    return pinned
  }

  load(): Omit<SchedulerLoad, 'slots' | 'kvTokensMax' | 'kvTokensFree'> {
    const { parts, sequenceCount, running } = this.#options
    return {
      sequencesRunning: [...running()].length,
      sequencesMax: sequenceCount,
      queueDepth: this.queue.depth,
      queueDepthMax: parts.limits.queueDepthMax,
      slotsInUse: this.pinned().size,
      waitMs: this.#control.waitMs(NO_TENANT, 1),
    }
  }

  waitingTenants(): WaitingTenant[] {
    const nowUs = this.#options.parts.clock.nowUs()
    const tenants = new Map<string, WaitingTenant>()
    for (const { tenantId, weight, timing } of this.queue.waiting()) {
      const waitUs = Math.max(nowUs - timing.acceptedUs, tenants.get(tenantId)?.waitUs ?? 0)
      tenants.set(tenantId, { tenantId, weight, waitUs })
    }
    return [...tenants.values()]
  }

  #create(owner: LiveRequest<C>, choice: number, acceptedUs: number): C {
    const { create, promptCost } = this.#options
    const { request, prompt } = owner
    const { adapter_digest: digest } = request
    const leaveQueue = digest === null ? () => {} : this.#readiness.join(digest)
    const estimate = {
      expectedTokens: this.#control.expectedTokens(request.tenant_id, prompt.completionTokensMax),
      promptCost: promptCost(),
    }
    return create({ owner, choice, acceptedUs, estimate, leaveQueue })
  }

  #fail(digest: string, cause: unknown): void {
    for (const choice of this.queue.waiting()) {
      if (choice.digest === digest) choice.owner.orderEnd(toEndOrder(cause))
    }
    this.#options.wake()
  }
}
