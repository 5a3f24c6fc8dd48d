/**
 * A request between its admission and its end: what it holds of limits is settled, and its
 * `Idempotency-Key` answered for, once, whichever way it ends: with the host's end event, a
 * refusal, a failure, or a client that leaves.
 */
import { idTimeMs } from '#db/ids.ts'
import type { StoredReply } from '#db/queries/idempotency-keys.ts'
import type { Price } from '#db/queries/prices.ts'
import type { GenerateRequest } from '#protocol'
import type { Identity } from '../auth/authenticate.ts'
import type { ModelTarget } from '../catalog/catalog.ts'
import type { Deps } from '../deps.ts'
import { toEdgeError } from '../errors.ts'
import type { KeepAlive } from '../keep-alive.ts'
import { CONTEXT_LENGTH_DEFAULT, IDEMPOTENT_REPLY_BYTES_MAX } from '../limits.ts'
import { type HostEvents, isKeepAlive } from '../openai/event-stream.ts'
import type { EdgeContext } from '../request-context.ts'
import { type Admitted, isUnbilled } from './admission.ts'
import type { IdempotentEnd, IdempotentTry } from './idempotency.ts'
import { recordStream } from './recorded-stream.ts'

export interface OpenRequestInput {
  readonly identity: Identity
  readonly target: ModelTarget
  readonly request: Pick<GenerateRequest, 'input' | 'n' | 'max_tokens'>
  /** The request's body as it came. */
  readonly body: Uint8Array
  readonly isStream: boolean
  /** Aborted when the client leaves. */
  readonly signal: AbortSignal
}

interface OpenInput extends OpenRequestInput {
  /** Lets work outlive the client and the reply. */
  readonly keepAlive: KeepAlive
}

/**
 * The request that is to be served, or the reply of the one that it repeats. Throws what
 * Idempotency and Admission throw.
 */
export function openRequest(
  deps: Deps,
  c: EdgeContext,
  input: OpenRequestInput,
): Promise<OpenRequest | Response> {
  const keepAlive = c.get('keepAlive')
  const opening = open(deps, c, { ...input, keepAlive })
  // What it asks the database for it also takes, and gives back, when its client leaves meanwhile.
  keepAlive(
    opening.then(
      () => {},
      () => {},
    ),
  )
  return opening
}

async function open(deps: Deps, c: EdgeContext, input: OpenInput): Promise<OpenRequest | Response> {
  const { identity, target } = input
  const keyId = identity.kind === 'tenant' ? identity.keyId : null
  const start = await deps.idempotency.begin({
    tenantId: target.tenantId,
    keyId,
    idempotencyKey: c.req.header('idempotency-key') ?? null,
    path: c.req.path,
    body: input.body,
    requestId: c.get('requestId'),
  })
  // The reply names the request that it answers.
  if (start !== null) c.set('requestId', start.requestId)
  if (start?.type === 'replay') return toResponse(c, start.reply)
  const work = start?.work ?? null
  try {
    const price = await deps.catalog.price(target.baseModel, input.keepAlive)
    const admitted = await admit(deps, c, input, price)
    return new OpenRequest({ input, admitted, work, price, requestId: c.get('requestId'), deps })
  } catch (error) {
    await work?.end({ type: 'unbilled' })
    throw error
  }
}

async function admit(
  deps: Deps,
  c: EdgeContext,
  { identity, target, request, keepAlive }: OpenInput,
  price: Price | null,
): Promise<Admitted> {
  await deps.pool.ready(keepAlive)
  const lengths = deps.pool
    .known()
    .filter((heartbeat) => heartbeat.base_model === target.baseModel)
    .map((heartbeat) => heartbeat.context_length)
  const madeMs = idTimeMs(c.get('requestId')) ?? deps.nowMs()
  const limits = identity.kind === 'tenant' ? identity.limits : []
  const admitted = await deps.admission.admit({
    limits,
    request,
    price,
    month: new Date(madeMs).toISOString().slice(0, 7),
    contextLength: lengths.length === 0 ? CONTEXT_LENGTH_DEFAULT : Math.max(...lengths),
    tell: (headers) => {
      for (const [name, value] of Object.entries(headers)) c.header(name, value)
    },
  })
  if (limits.length > 0) keepAlive(deps.admission.upkeep())
  return admitted
}

interface OpenRequestParts {
  readonly deps: Deps
  readonly input: OpenInput
  readonly admitted: Admitted
  /** null = no idempotency key. */
  readonly work: IdempotentTry | null
  readonly price: Price | null
  readonly requestId: string
}

export class OpenRequest {
  readonly #parts: OpenRequestParts
  #delivered = 0
  #hasBegun = false
  #isAnswered = false

  constructor(parts: OpenRequestParts) {
    this.#parts = parts
    const { signal } = parts.input
    if (signal.aborted) this.#leave()
    else signal.addEventListener('abort', () => this.#leave(), { once: true })
  }

  /** What the host's request says of its admission. */
  get fields(): Pick<GenerateRequest, 'request_id' | 'attempt' | 'price_version_id' | 'lease_ids'> {
    const { requestId, work, price, admitted } = this.#parts
    return {
      request_id: requestId,
      attempt: work?.attempt ?? 1,
      price_version_id: price?.id ?? null,
      lease_ids: admitted.leaseIds,
    }
  }

  /** Tokens were passed on to the client. */
  readonly onDelivered = (tokens: number): void => {
    this.#delivered += tokens
  }

  readonly deliveredTokens = (): number => this.#delivered

  /** The host's events, passed on. */
  async *watch(events: HostEvents): HostEvents {
    try {
      for await (const event of events) {
        this.#hasBegun = true
        if (event.type === 'end') {
          this.#isAnswered = true
          this.#parts.admitted.settle({ type: 'answered', usage: event.usage })
        }
        yield event
      }
    } catch (error) {
      this.#fail(error)
      throw error
    } finally {
      this.#settleUnknown()
    }
  }

  /** The whole reply. */
  async reply(c: EdgeContext, value: object): Promise<Response> {
    const { work } = this.#parts
    if (work === null) return c.json(value)
    const reply = { body: JSON.stringify(value), contentType: 'application/json' }
    await work.end({ type: 'answered', reply })
    return c.body(reply.body, 200, { 'content-type': reply.contentType })
  }

  /** The streamed reply. */
  record(body: ReadableStream<Uint8Array>, contentType: string): ReadableStream<Uint8Array> {
    const { work } = this.#parts
    if (work === null) return body
    return recordStream(body, {
      bytesMax: IDEMPOTENT_REPLY_BYTES_MAX,
      isNoise: isKeepAlive,
      onEnd: ({ text }) => {
        if (!this.#isAnswered) return work.end(this.#partialEnd)
        const reply = text === null ? null : { body: text, contentType }
        return work.end({ type: 'answered', reply })
      },
    })
  }

  #fail(thrown: unknown): void {
    const { admitted, work, input } = this.#parts
    const isRefused = !this.#hasBegun && isUnbilled(toEdgeError(thrown))
    if (isRefused) admitted.settle({ type: 'refused' })
    // A stream that has begun ends with an error frame; `record` sees its end.
    if (input.isStream && this.#hasBegun) return
    if (work !== null) {
      input.keepAlive(work.end({ type: isRefused ? 'unbilled' : 'undelivered' }))
    }
  }

  #leave(): void {
    this.#settleUnknown()
    const { work, input } = this.#parts
    if (work !== null) input.keepAlive(work.end(this.#partialEnd))
  }

  /** What the client got is owed, so no other try may take its place. */
  get #partialEnd(): IdempotentEnd {
    return { type: this.#delivered > 0 ? 'cut' : 'undelivered' }
  }

  #settleUnknown(): void {
    const { admitted } = this.#parts
    const { request_id: requestId, attempt } = this.fields
    admitted.settle({ type: 'unknown', requestId, attempt, hasBegun: this.#hasBegun })
  }
}

function toResponse(c: EdgeContext, reply: StoredReply): Response {
  return c.body(reply.body, 200, {
    'content-type': reply.contentType,
    'cache-control': 'no-store',
    'idempotency-replayed': 'true',
  })
}
