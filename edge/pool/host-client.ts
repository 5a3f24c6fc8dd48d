/**
 * Calls hosts: signs each attempt, moves to the next host while the client has got nothing, and
 * says when the client has left. The same request id goes with every attempt and each has a higher
 * number, so that whatever a lost host still reports cannot be billed beside the answer.
 */
import {
  type ChunkEvent,
  cancelReceipt,
  type EndEvent,
  type GenerateRequest,
  HOST_ROUTES,
} from '#protocol'
import { EdgeError } from '../errors.ts'
import { CANCEL_TIMEOUT_MS, HOST_ATTEMPTS_MAX, type HostPatience } from '../limits.ts'
import type { EdgeMetrics } from '../metrics.ts'
import { clientLeft, runAttempt } from './attempt.ts'
import type { GrantCall, GrantSigner } from './grant.ts'
import type { ChoiceWish, HostChoice } from './host-choice.ts'
import type { HostFailure } from './host-failure.ts'
import type { HostState } from './pick-host.ts'
import type { PoolView } from './pool-view.ts'
import type { VoidOutbox } from './void-outbox.ts'

export interface HostClientOptions {
  readonly pool: PoolView
  readonly choice: HostChoice
  readonly signer: GrantSigner
  readonly metrics: EdgeMetrics
  readonly voids: VoidOutbox
  readonly fetch: typeof globalThis.fetch
  readonly patience: HostPatience
}

/** Whoever waits for the answer. */
export interface Listener {
  /** Aborted when the client leaves. */
  readonly signal: AbortSignal
  /** The reply goes out at once, at its end: until then another host may begin it anew. */
  readonly isWhole: boolean
  /** Tokens of the answer that were passed on to the client. */
  readonly deliveredTokens: () => number
  /** Lets work outlive the client and the reply. */
  readonly keepAlive: (work: Promise<void>) => void
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
    const { choice, voids } = this.#options
    const hosts = (await choice.order(toWish(request))).slice(0, HOST_ATTEMPTS_MAX)
    let refusal = noHost(request.base_model)
    let attempt = request.attempt - 1
    /** A host may bill an attempt of which the client got nothing. */
    let mayOwe = false
    for (const host of hosts) {
      if (listener.signal.aborted) {
        refusal = clientLeft()
        break
      }
      attempt += 1
      const outcome = yield* this.#try(host, { ...request, attempt }, listener)
      if (outcome === null) return
      refusal = outcome.error
      mayOwe ||= outcome.mayOwe
      if (!outcome.isRetryable) break
    }
    // Where no host has begun there is nothing to take back.
    if (mayOwe) listener.keepAlive(voids.add(request, attempt + 1))
    throw refusal
  }

  /** Asks the host that would be picked now to bring a cold adapter into RAM. Never rejects. */
  async prefetch(
    wish: { readonly baseModel: string; readonly digest: string; readonly tenantId: string },
    requestId: string,
    signal: AbortSignal,
  ): Promise<void> {
    const { choice, metrics } = this.#options
    try {
      const [host] = await choice.order(wish)
      const tier = host?.tierOf(wish.digest)
      if (host === undefined || tier === 'slot' || tier === 'ram') return
      const call = {
        request_id: requestId,
        tenant_id: wish.tenantId,
        key_id: null,
        adapter_digest: wish.digest,
        max_tokens: null,
        body: JSON.stringify({ adapter_digest: wish.digest }),
      }
      const response = await this.#post(host, HOST_ROUTES.prefetch, call, signal)
      await response.body?.cancel()
      metrics.prefetches.add({ outcome: response.ok ? 'sent' : 'refused' })
    } catch {
      // A hint: the request itself will say what is wrong.
      metrics.prefetches.add({ outcome: 'failed' })
    }
  }

  /** One host's turn: null when it answered, else why not; then the client got nothing. */
  async *#try(
    host: HostState,
    request: GenerateRequest,
    listener: Listener,
  ): AsyncGenerator<ChunkEvent | EndEvent, HostFailure | null, void> {
    const { pool, choice, metrics, patience } = this.#options
    const cancel = (): Promise<void> => {
      const work = this.#cancel(host, request, listener.deliveredTokens())
      listener.keepAlive(work)
      return work
    }
    const body = JSON.stringify(request)
    const send = (signal: AbortSignal): Promise<Response> =>
      this.#post(host, HOST_ROUTES.generate, { ...request, body }, signal)
    const held: ChunkEvent[] = []
    let hasBegun = false
    const leave = choice.enter(host, toWish(request))
    try {
      for await (const event of runAttempt({ send, cancel, client: listener.signal, patience })) {
        if (event.type === 'failure') {
          metrics.hostAttempts.add({ outcome: event.hostCode })
          if (event.isHostSuspect) pool.suspect(host.hostId)
          if (!hasBegun) return event
          // No attempt follows: where the host lives, it shall know what the client has.
          void cancel()
          throw event.error
        }
        if (listener.isWhole && event.type === 'chunk') {
          held.push(event)
          continue
        }
        hasBegun = true
        yield* held
        yield event
        if (event.type === 'end') metrics.hostAttempts.add({ outcome: 'ok' })
      }
    } finally {
      leave()
    }
    return null
  }

  /** Tells a host that its client is gone, and what it got. Never rejects. */
  async #cancel(host: HostState, request: GenerateRequest, delivered: number): Promise<void> {
    const { metrics } = this.#options
    const { request_id, attempt } = request
    const body = JSON.stringify({ request_id, attempt, delivered_tokens: delivered })
    try {
      const signal = AbortSignal.timeout(CANCEL_TIMEOUT_MS)
      const call = { ...request, body }
      const response = await this.#post(host, HOST_ROUTES.cancel, call, signal)
      const reply = cancelReceipt.safeParse(await response.json())
      metrics.cancels.add({ outcome: reply.success ? reply.data.outcome : 'refused' })
    } catch {
      // The host settles at what it handed over, when it finds the connection closed.
      metrics.cancels.add({ outcome: 'failed' })
    }
  }

  async #post(
    host: HostState,
    route: string,
    call: Omit<GrantCall, 'route'> & { readonly body: string },
    signal: AbortSignal,
  ): Promise<Response> {
    const { signer, fetch } = this.#options
    const { body, request_id, tenant_id, key_id, adapter_digest, max_tokens } = call
    const claims = { request_id, tenant_id, key_id, adapter_digest, max_tokens }
    const authorization = await signer.sign({ route, ...claims, body })
    return fetch(new URL(route, host.url).href, {
      method: 'POST',
      headers: { authorization, 'content-type': 'application/json' },
      body,
      signal,
    })
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
