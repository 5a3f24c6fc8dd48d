/**
 * Asks hosts for answers: moves to the next one while the client has got nothing and retries are
 * left, and says when the client has left. The same request id goes with every attempt and each has
 * a higher number, so that whatever a lost host still reports cannot be billed beside the answer.
 * How each attempt ends is what `host-health.ts` knows of the hosts.
 */
import { type ChunkEvent, type EndEvent, type GenerateRequest, HOST_ROUTES } from '#protocol'
import type { Span } from '#tracing/tracer.ts'
import { deadlineExceeded, remainingDeadline } from '../admission/deadline.ts'
import { EDGE_ERRORS, EdgeError } from '../errors.ts'
import type { KeepAlive } from '../keep-alive.ts'
import {
  HOST_ATTEMPTS_MAX,
  type HostPatience,
  POOL_VIEW_AGE_MS_MAX,
  RETRIES_MIN,
  RETRY_AFTER_JITTER,
} from '../limits.ts'
import type { EdgeMetrics } from '../metrics.ts'
import { clientLeft, runAttempt } from './attempt.ts'
import { AttemptSpan } from './attempt-span.ts'
import type { HostCalls } from './host-calls.ts'
import { type ChoiceWish, type HostChoice, toEnding } from './host-choice.ts'
import type { HostFailure } from './host-failure.ts'
import type { HostHealth } from './host-health.ts'
import type { HostPace } from './host-pace.ts'
import { isOk, readText } from './host-transport.ts'
import type { HostState } from './pick-host.ts'
import type { PoolView } from './pool-view.ts'
import type { HostProber } from './prober.ts'
import type { RefusalMemory } from './refusal-memory.ts'
import type { RetryBudget } from './retry-budget.ts'
import type { VoidOutbox } from './void-outbox.ts'

export interface HostClientOptions {
  readonly pool: PoolView
  readonly choice: HostChoice
  readonly health: HostHealth
  readonly pace: HostPace
  readonly prober: HostProber
  readonly budget: RetryBudget
  readonly refusals: RefusalMemory
  readonly calls: HostCalls
  readonly metrics: EdgeMetrics
  readonly voids: VoidOutbox
  readonly patience: HostPatience
  /** Monotonic. */
  readonly nowMs: () => number
  /** 0 ≤ x < 1. */
  readonly random: () => number
}

/** Whoever waits for the answer. */
export interface Listener {
  /** Aborted when the client leaves. */
  readonly signal: AbortSignal
  /** Of its request. */
  readonly span: Span
  /** When its request arrived; monotonic. */
  readonly arrivedMs: number
  /** The reply goes out at once, at its end: until then another host may begin it anew. */
  readonly isWhole: boolean
  /** Tokens of the answer that were passed on to the client. */
  readonly deliveredTokens: () => number
  readonly keepAlive: KeepAlive
}

export class HostClient {
  readonly #options: HostClientOptions

  constructor(options: HostClientOptions) {
    this.#options = options
  }

  /**
   * Chunks, then the end. Throws EdgeError when no host can answer, or when the one that began
   * fails. When the client leaves, the host's work ends; return from it then, or read on.
   */
  async *generate(
    request: GenerateRequest,
    listener: Listener,
  ): AsyncGenerator<ChunkEvent | EndEvent, void, void> {
    const { budget, voids, nowMs } = this.#options
    const startMs = nowMs()
    const asked = new Set<string>()
    let hosts = await this.#hostsFor(request, listener, asked)
    budget.begin()
    let refusal: EdgeError | null = null
    let attempt = request.attempt - 1
    /** A host may bill an attempt of which the client got nothing. */
    let mayOwe = false
    for (let [host] = hosts; host !== undefined; [host] = hosts) {
      const deadline_ms = remainingDeadline(request.deadline_ms, nowMs() - startMs)
      if (deadline_ms === 0) {
        refusal = deadlineExceeded()
        break
      }
      attempt += 1
      asked.add(host.hostId)
      const outcome = yield* this.#try(host, { ...request, attempt, deadline_ms }, listener)
      if (outcome === null) return
      refusal = outcome.error
      mayOwe ||= outcome.mayOwe
      if (listener.signal.aborted) refusal = clientLeft(listener.signal)
      if (listener.signal.aborted || !outcome.isRetryable) break
      if (asked.size === HOST_ATTEMPTS_MAX) break
      // Chosen anew: it may be minutes since, and the pool another.
      hosts = await this.#hostsFor(request, listener, asked).catch(() => [])
      if (hosts.length > 0 && !this.#mayRetry(hosts)) {
        refusal = this.#outOfRetries(outcome.error)
        break
      }
    }
    // Where no host has begun there is nothing to take back.
    if (mayOwe) listener.keepAlive(voids.add(request, attempt + 1))
    throw refusal ?? noHost(request.base_model)
  }

  /** Asks the host that would be picked now to bring a cold adapter into RAM. Never rejects. */
  async prefetch(
    wish: { readonly baseModel: string; readonly digest: string; readonly tenantId: string },
    requestId: string,
    signal: AbortSignal,
  ): Promise<void> {
    const { choice, calls, metrics } = this.#options
    try {
      const host = await choice.hint(wish)
      if (host === null) return
      const call = {
        request_id: requestId,
        tenant_id: wish.tenantId,
        key_id: null,
        adapter_digest: wish.digest,
        max_tokens: null,
        body: JSON.stringify({ adapter_digest: wish.digest }),
      }
      const reply = await calls.post(host.url, HOST_ROUTES.prefetch, call, signal)
      await readText(reply)
      metrics.prefetches.add({ outcome: isOk(reply) ? 'sent' : 'refused' })
    } catch {
      // A hint: the request itself will say what is wrong.
      metrics.prefetches.add({ outcome: 'failed' })
    }
  }

  /**
   * Whom to ask of those that were not asked yet, best first. Throws at once where all would
   * refuse: each did a moment ago, or has more waiting than can be done by the request's deadline.
   */
  async #hostsFor(
    request: GenerateRequest,
    listener: Listener,
    asked: ReadonlySet<string>,
  ): Promise<HostState[]> {
    const { choice, refusals } = this.#options
    const { keepAlive } = listener
    const ordered = await choice.order(toWish(request), { asked, keepAlive })
    const said = ordered.map(({ hostId }) => refusals.recall(hostId, request.tenant_id))
    const open = ordered.filter((_, i) => said[i] === null)
    const [refusal] = said.filter((error) => error !== null)
    if (open.length === 0 && refusal !== undefined) {
      throw this.#overloaded(refusal.message, refusal.retryAfterMs ?? 0, refusal)
    }
    const { deadline_ms: deadlineMs } = request
    const waitMs = Math.min(...open.map((host) => host.waitMs))
    // What hosts reckoned may be as old as the snapshot is.
    if (deadlineMs !== null && open.length > 0 && waitMs > deadlineMs + POOL_VIEW_AGE_MS_MAX) {
      throw this.#overloaded('The pool is busy beyond the deadline. Please retry.', waitMs)
    }
    return open
  }

  /** The least of a window: all that one host has under way, and as much again in its queue. */
  #mayRetry(hosts: readonly HostState[]): boolean {
    const { budget, metrics } = this.#options
    const sequencesMax = Math.max(...hosts.map((host) => host.sequencesMax))
    const mayRetry = budget.take(Math.max(RETRIES_MIN, 2 * sequencesMax))
    metrics.retries.add({ outcome: mayRetry ? 'made' : 'no_budget' })
    return mayRetry
  }

  #outOfRetries(refusal: EdgeError): EdgeError {
    if (refusal.status === 503) return refusal
    const message = 'Too many requests had to be repeated at other hosts. Please retry.'
    return this.#overloaded(message, refusal.retryAfterMs ?? 0, refusal)
  }

  /** 503; those who are refused together shall not come back together. */
  #overloaded(message: string, retryAfterMs: number, cause?: EdgeError): EdgeError {
    const leastMs = Math.max(retryAfterMs, EDGE_ERRORS.overloaded.retryAfterMs)
    const afterMs = Math.ceil(leastMs * (1 + RETRY_AFTER_JITTER * this.#options.random()))
    return new EdgeError('overloaded', message, { retryAfterMs: afterMs, cause })
  }

  /** One host's turn: null when it answered, else why not; then the client got nothing. */
  async *#try(
    host: HostState,
    request: GenerateRequest,
    listener: Listener,
  ): AsyncGenerator<ChunkEvent | EndEvent, HostFailure | null, void> {
    const { pool, choice, calls, prober, metrics, patience, nowMs } = this.#options
    const cancel = (): Promise<void> => {
      const work = calls.cancel(host.url, request, listener.deliveredTokens())
      listener.keepAlive(work)
      return work
    }
    const body = JSON.stringify(request)
    const span = new AttemptSpan(listener.span, host, request)
    const call = {
      requestId: request.request_id,
      send: (signal: AbortSignal) =>
        calls.post(host.url, HOST_ROUTES.generate, { ...request, body }, signal, span.headers),
      cancel,
      client: listener.signal,
      isWhole: listener.isWhole,
      patience,
      nowMs,
      isAliveSince: (sinceMs: number) => prober.isAliveSince(host, sinceMs),
      onHeard: () => prober.heard(host.hostId),
    }
    const held: ChunkEvent[] = []
    const startMs = nowMs()
    let firstMs: number | null = null
    let hasBegun = false
    const visit = choice.enter(host, toWish(request))
    try {
      for await (const event of runAttempt(call)) {
        if (event.type === 'failure') {
          span.failed(event.hostCode)
          this.#learn({ host, request, startMs }, event, listener)
          // One that drains was not broken by this request: it came to its end.
          visit.leave(pool.isDraining(host.hostId) ? 'other' : toEnding(event))
          if (!hasBegun) return event
          // No attempt follows: where the host lives, it shall know what the client has.
          void cancel()
          throw event.error
        }
        if (firstMs === null) {
          firstMs = nowMs()
          this.#learnPace(host, request, firstMs - startMs)
          span.first(firstMs - startMs)
        }
        if (event.type === 'chunk') visit.chunk()
        else {
          visit.leave('answered')
          span.ended(event)
        }
        if (listener.isWhole && event.type === 'chunk') {
          held.push(event)
          continue
        }
        hasBegun = true
        yield* held
        yield event
        if (event.type !== 'end') continue
        metrics.hostAttempts.add({ outcome: 'ok' })
        const ttftMs = firstMs - listener.arrivedMs
        metrics.ttftSeconds.observe({ source: event.adapter_source }, ttftMs / 1000)
      }
    } finally {
      visit.leave('other')
      span.close()
    }
    return null
  }

  /** What a failed attempt says about its host. */
  #learn(
    attempt: { readonly host: HostState; readonly request: GenerateRequest; startMs: number },
    failure: HostFailure,
    { keepAlive }: Listener,
  ): void {
    const { host, request, startMs } = attempt
    const { pool, refusals, metrics } = this.#options
    metrics.hostAttempts.add({ outcome: failure.hostCode })
    if (failure.isHostSuspect) pool.failed(host.hostId, startMs, keepAlive)
    if (failure.hostCode === 'host_draining') pool.markDraining(host.hostId)
    if (failure.isBusy) refusals.remember(host.hostId, request.tenant_id, failure.error)
  }

  /** What the time to the first event says about a host that had the request's all at hand. */
  #learnPace(host: HostState, request: GenerateRequest, firstMs: number): void {
    const { health, pace } = this.#options
    health.succeeded(host.hostId)
    const { adapter_digest: digest } = request
    const tier = digest === null ? 'slot' : host.tierOf(digest)
    const isFree = host.waitMs === 0 && host.sequences < host.sequencesMax
    if (isFree && (tier === 'slot' || tier === 'ram')) pace.sampled(host.hostId, firstMs)
  }
}

function toWish(request: GenerateRequest): ChoiceWish {
  const { base_model: baseModel, adapter_digest: digest, tenant_id: tenantId } = request
  return { baseModel, digest, tenantId }
}

function noHost(baseModel: string): EdgeError {
  return new EdgeError(
    'no_host_available',
    `No host serves the base model ${baseModel} at the moment. Please retry.`,
  )
}
