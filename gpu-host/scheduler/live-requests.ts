/**
 * The requests that a host has accepted and not settled, whatever runs them: lets them in, ends
 * them early, and forgets them when they are in the journal for good.
 */
import { HostError } from '../errors.ts'
import type { AdapterSource, CancelReceipt, CancelRequest, GenerateRequest } from '../protocol.ts'
import type { Prompt } from '../text/prompt.ts'
import type { Admission } from './admission.ts'
import type { AdmissionControl } from './admission-control.ts'
import type { Choice } from './choice.ts'
import type { EndOrder } from './end-order.ts'
import { EventBuffer } from './event-buffer.ts'
import { HandOver, NOTHING } from './hand-over.ts'
import { countByAdapter, LiveRequest } from './live-request.ts'
import type { Generation } from './request-runner.ts'
import type { RunnerParts } from './scheduler-options.ts'
import type { Ending, Settlement } from './settlement.ts'

export interface LiveRequestsOptions<C extends Choice>
  extends Pick<RunnerParts, 'journal' | 'clock' | 'hostId' | 'limits' | 'randomSeed'> {
  readonly queue: Admission<C>
  readonly control: AdmissionControl<C>
  /** A choice that is about to be queued. */
  readonly createChoice: (owner: LiveRequest<C>, choice: number, acceptedUs: number) => C
  /** In the journal for good: gives back what its choices held. */
  readonly onSettled: (settlement: Settlement<C>) => void
  /** There is something to look at: an order, or room in a buffer. */
  readonly wake: () => void
}

export interface Acceptance {
  readonly request: GenerateRequest
  readonly prompt: Prompt
  /** Where its adapter is now. */
  readonly source: AdapterSource
}

export class LiveRequests<C extends Choice> {
  readonly handOver: HandOver<C>
  readonly #options: LiveRequestsOptions<C>
  readonly #live = new Set<LiveRequest<C>>()
  #handles = 0
  #isDraining = false
  #onIdle: (() => void)[] = []

  constructor(options: LiveRequestsOptions<C>) {
    this.#options = options
    this.handOver = new HandOver({
      journal: options.journal,
      clock: options.clock,
      hostId: options.hostId,
      onSettled: (settlement) => this.#forget(settlement),
      order: (owner, order) => this.order(owner, order),
    })
  }

  get size(): number {
    return this.#live.size
  }

  get isDraining(): boolean {
    return this.#isDraining
  }

  startDraining(): void {
    this.#isDraining = true
  }

  stopDraining(): void {
    this.#isDraining = false
  }

  /** Throws HostError: `host_draining`, `request_duplicate`, `queue_full`, `journal_full`. */
  assertMayEnter(request: GenerateRequest): void {
    const { control, journal } = this.#options
    if (this.#isDraining) throw new HostError('host_draining', 'the host is shutting down')
    this.handOver.attempts.assertNewer(request)
    control.assertAdmits(request)
    journal.assertRoom()
  }

  /** Writes the request down and queues its choices. Throws `journal_full`. */
  accept({ request, prompt, source }: Acceptance): Generation {
    const { clock, queue, hostId, randomSeed } = this.#options
    const owner = new LiveRequest<C>({
      handle: this.#handles,
      request,
      prompt,
      createBuffer: (self) => this.#createBuffer(self),
      startedAt: new Date(clock.nowMs()).toISOString(),
      source,
      seed: request.sampling.seed ?? randomSeed(),
      createChoice: (self, choice) => this.#options.createChoice(self, choice, clock.nowUs()),
    })
    const older = this.#find(request.request_id)
    try {
      this.handOver.open(owner)
    } catch (error) {
      for (const choice of owner.sequences) choice.leaveQueue()
      throw error
    }
    this.#handles += 1
    this.#live.add(owner)
    // Whoever sends a newer attempt does not wait for this one any more.
    if (older !== undefined) this.order(older, CLIENT_LEFT)
    for (const choice of owner.sequences) queue.push(choice)
    owner.buffer.push({
      type: 'accepted',
      request_id: request.request_id,
      host_id: hostId,
      prompt_tokens: prompt.tokens.length,
    })
    return {
      promptTokens: prompt.tokens.length,
      next: () => owner.buffer.next(),
      cancel: () => this.order(owner, CLIENT_LEFT),
    }
  }

  /**
   * The client has left, and got no more than `delivered_tokens`: ends the attempt, or corrects it
   * where it is settled already.
   */
  cancel(cancel: CancelRequest): CancelReceipt['outcome'] {
    const owner = this.#find(cancel.request_id)
    if (owner !== undefined && owner.request.attempt === cancel.attempt) {
      owner.deliveredTokensMax = Math.min(owner.deliveredTokensMax, cancel.delivered_tokens)
      this.order(owner, CLIENT_LEFT)
      return 'ending'
    }
    if (this.handOver.correct(cancel)) return 'corrected'
    // The call may have overtaken the attempt that it ends.
    this.handOver.attempts.enter(cancel)
    return 'settled'
  }

  order(owner: LiveRequest<C>, order: EndOrder): void {
    owner.orderEnd(order)
    this.#options.wake()
  }

  /** Ends what was ordered to, what waited too long, and what its consumer does not read. */
  reap(): void {
    const { clock, limits, control } = this.#options
    const nowUs = clock.nowUs()
    const endings: Ending<C>[] = []
    for (const owner of this.#live) {
      const expiry = owner.order === null ? control.expiry(owner, nowUs) : null
      if (expiry !== null) owner.orderEnd({ finish: 'error', error: expiry })
      owner.stalledSinceUs = owner.isHeldUp ? (owner.stalledSinceUs ?? nowUs) : null
      const stalledUs = nowUs - (owner.stalledSinceUs ?? nowUs)
      if (stalledUs > limits.consumerStallMaxMs * 1000) {
        const error = new HostError('request_aborted', 'the client stopped reading')
        owner.orderEnd({ finish: 'abort', error })
      }
      if (owner.order !== null) endings.push({ owner, ...owner.order })
    }
    if (endings.length > 0) this.handOver.commit({ ...NOTHING, endings })
  }

  /** Orders everything to end, for good. */
  endAll(error: HostError): void {
    this.#isDraining = true
    for (const owner of this.#live) this.order(owner, { finish: 'error', error })
  }

  /** Resolves when nothing is queued or running. */
  async idle(): Promise<void> {
    if (this.#live.size === 0) return
    await new Promise<void>((resolve) => this.#onIdle.push(resolve))
  }

  /** Sequences that run or wait, by the digest of their adapter. */
  sequencesByAdapter(): Map<string, number> {
    return countByAdapter(this.#live)
  }

  #createBuffer(owner: LiveRequest<C>): EventBuffer {
    const { limits, wake } = this.#options
    return new EventBuffer({
      eventsMax: limits.eventsBufferedMax * owner.request.n,
      bytesMax: limits.eventBytesBufferedMax,
      onRoom: wake,
      record: (chunk) => this.handOver.record(owner, chunk),
    })
  }

  /** The newest attempt at the request that is not settled. */
  #find(requestId: string): LiveRequest<C> | undefined {
    if (!this.handOver.attempts.hasSeen(requestId)) return undefined
    return [...this.#live].findLast(({ request }) => request.request_id === requestId)
  }

  #forget(settlement: Settlement<C>): void {
    this.#options.onSettled(settlement)
    this.#live.delete(settlement.ending.owner)
    if (this.#live.size > 0) return
    for (const resolve of this.#onIdle.splice(0)) resolve()
  }
}

const CLIENT_LEFT: EndOrder = { finish: 'abort', error: null }
