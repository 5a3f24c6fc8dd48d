/**
 * Calls hosts: signs each attempt, reads the events, moves to the next host while nothing was
 * generated yet, and passes an abort on at once. The same request id goes with every attempt, so
 * that whatever a lost host still reports cannot be billed beside the answer.
 */
import { createParser } from 'eventsource-parser'
import { type GenerateEvent, type GenerateRequest, generateEvent, HOST_ROUTES } from '#protocol'
import { EdgeError } from '../errors.ts'
import { HOST_ATTEMPTS_MAX, HOST_HEADERS_TIMEOUT_MS, HOST_SILENCE_MS_MAX } from '../limits.ts'
import type { EdgeMetrics } from '../metrics.ts'
import type { GrantSigner } from './grant.ts'
import {
  brokenOff,
  type HostFailure,
  parseHostFailure,
  toHostFailure,
  unreachable,
} from './host-failure.ts'
import { type HostState, pickHosts } from './pick-host.ts'
import type { PoolView } from './pool-view.ts'

export type ChunkEvent = Extract<GenerateEvent, { type: 'chunk' }>
export type EndEvent = Extract<GenerateEvent, { type: 'end' }>

export interface HostClientOptions {
  readonly pool: PoolView
  readonly signer: GrantSigner
  readonly metrics: EdgeMetrics
  readonly fetch: typeof globalThis.fetch
}

const ERROR_BYTES_MAX = 64 * 1024

export class HostClient {
  readonly #options: HostClientOptions

  constructor(options: HostClientOptions) {
    this.#options = options
  }

  /**
   * Chunks, then the end. Throws EdgeError when no host can answer, or when the one that began
   * fails. Aborting `signal` ends the host's work.
   */
  async *generate(
    request: GenerateRequest,
    signal: AbortSignal,
  ): AsyncGenerator<ChunkEvent | EndEvent, void, void> {
    const { pool, metrics } = this.#options
    const wish = { baseModel: request.base_model, digest: request.adapter_digest }
    const hosts = pickHosts(await pool.ready(), wish)
    const body = JSON.stringify(request)
    let refusal = noHost(request.base_model)
    for (const host of hosts.slice(0, HOST_ATTEMPTS_MAX)) {
      let hasBegun = false
      let hasEnded = false
      const leave = pool.enter(host.hostId)
      try {
        for await (const event of this.#attempt(host, request, body, signal)) {
          if (event.type === 'failure') {
            metrics.hostAttempts.add({ outcome: event.hostCode })
            if (event.isHostSuspect) pool.suspect(host.hostId)
            if (hasBegun || !event.isRetryable) throw event.error
            refusal = event.error
            break
          }
          hasBegun = true
          yield event
          if (event.type !== 'end') continue
          hasEnded = true
          metrics.hostAttempts.add({ outcome: 'ok' })
        }
      } finally {
        leave()
      }
      if (hasEnded) return
    }
    throw refusal
  }

  /** Asks the host that would be picked now to bring a cold adapter into RAM. Never rejects. */
  async prefetch(
    wish: { readonly baseModel: string; readonly digest: string; readonly tenantId: string },
    requestId: string,
    signal: AbortSignal,
  ): Promise<void> {
    const { pool, metrics, signer, fetch } = this.#options
    try {
      const [host] = pickHosts(await pool.ready(), wish)
      const tier = host?.tierOf(wish.digest)
      if (host === undefined || tier === 'slot' || tier === 'ram') return
      const body = JSON.stringify({ adapter_digest: wish.digest })
      const authorization = await signer.sign({
        route: HOST_ROUTES.prefetch,
        request_id: requestId,
        tenant_id: wish.tenantId,
        key_id: null,
        adapter_digest: wish.digest,
        max_tokens: null,
        body,
      })
      const response = await fetch(new URL(HOST_ROUTES.prefetch, host.url).href, {
        method: 'POST',
        headers: { authorization, 'content-type': 'application/json' },
        body,
        signal,
      })
      await response.body?.cancel()
      metrics.prefetches.add({ outcome: response.ok ? 'sent' : 'refused' })
    } catch {
      // A hint: the request itself will say what is wrong.
      metrics.prefetches.add({ outcome: 'failed' })
    }
  }

  /**
   * One host's answer, up to an `end` or a `failure`; throws only when the client is gone. After
   * the end it reads the stream out, so that the connection can serve the next request.
   */
  async *#attempt(
    host: HostState,
    request: GenerateRequest,
    body: string,
    signal: AbortSignal,
  ): AsyncGenerator<ChunkEvent | EndEvent | HostFailure, void, void> {
    const watch = new Watch(signal)
    let hasEnded = false
    try {
      watch.limit(HOST_HEADERS_TIMEOUT_MS)
      const response = await this.#send(host, request, body, watch.signal)
      if (!response.ok) {
        yield parseHostFailure(response.status, (await response.text()).slice(0, ERROR_BYTES_MAX))
        return
      }
      for await (const event of readEvents(response, watch)) {
        if (event.type === 'accepted' || hasEnded) continue
        hasEnded = event.type === 'end'
        yield event.type === 'error' ? toHostFailure(event) : event
        if (event.type === 'error') return
      }
      if (!hasEnded) yield brokenOff(new Error('the stream ended before its end'))
    } catch (error) {
      if (hasEnded) return
      if (signal.aborted) throw new EdgeError('request_aborted', 'the client left')
      yield watch.hasHeaders ? brokenOff(error) : unreachable(error)
    } finally {
      watch.end()
    }
  }

  async #send(
    host: HostState,
    request: GenerateRequest,
    body: string,
    signal: AbortSignal,
  ): Promise<Response> {
    const { signer, fetch } = this.#options
    const { request_id, tenant_id, key_id, adapter_digest, max_tokens } = request
    const authorization = await signer.sign({
      route: HOST_ROUTES.generate,
      request_id,
      tenant_id,
      key_id,
      adapter_digest,
      max_tokens,
      body,
    })
    return fetch(new URL(HOST_ROUTES.generate, host.url).href, {
      method: 'POST',
      headers: { authorization, 'content-type': 'application/json' },
      body,
      signal,
    })
  }
}

/** Ends an attempt when the client leaves, or when the host is silent for too long. */
class Watch {
  hasHeaders = false
  readonly #controller = new AbortController()
  readonly #client: AbortSignal
  #timer: ReturnType<typeof setTimeout> | null = null

  constructor(client: AbortSignal) {
    this.#client = client
    if (client.aborted) this.#controller.abort()
    else client.addEventListener('abort', this.#leave, { once: true })
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** Starts the time anew. */
  limit(ms: number): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#controller.abort(new Error(`the host was silent for ${ms} ms`))
    }, ms)
  }

  /** Lets go of the client, and of the host's connection where it is still open. */
  end(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#client.removeEventListener('abort', this.#leave)
    this.#controller.abort()
  }

  readonly #leave = (): void => this.#controller.abort()
}

async function* readEvents(
  response: Response,
  watch: Watch,
): AsyncGenerator<GenerateEvent, void, void> {
  watch.hasHeaders = true
  if (response.body === null) return
  let events: GenerateEvent[] = []
  const parser = createParser({
    onEvent: ({ data }) => events.push(generateEvent.parse(JSON.parse(data))),
    onError: (error) => {
      throw error
    },
  })
  const decoder = new TextDecoder()
  watch.limit(HOST_SILENCE_MS_MAX)
  for await (const bytes of response.body) {
    watch.limit(HOST_SILENCE_MS_MAX)
    parser.feed(decoder.decode(bytes, { stream: true }))
    if (events.length === 0) continue
    const ready = events
    events = []
    yield* ready
  }
}

function noHost(baseModel: string): EdgeError {
  return new EdgeError(
    'no_host_available',
    `No host serves the base model ${baseModel} at the moment. Please retry.`,
  )
}
