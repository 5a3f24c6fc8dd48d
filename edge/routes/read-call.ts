/**
 * What a request asks for, and of which model. A cold adapter starts on its way to a host's memory
 * as soon as the model is known: on a model's own endpoint before the body is read, on the shared
 * one when the part of the body has arrived that names it.
 */
import type { Identity } from '../auth/authenticate.ts'
import { type ModelCaller, type ModelTarget, modelNotFound } from '../catalog/catalog.ts'
import { parseModelReference } from '../catalog/model-reference.ts'
import type { Deps } from '../deps.ts'
import { EdgeError } from '../errors.ts'
import { REQUEST_BYTES_MAX } from '../limits.ts'
import type { Call } from '../openai/call-fields.ts'
import { ModelPeek } from '../openai/model-peek.ts'
import { parseJson, readBytes } from '../read-body.ts'
import type { EdgeContext } from '../request-context.ts'

interface CallRead {
  readonly call: Call
  readonly target: ModelTarget
  readonly body: Uint8Array
}

type CallParser = (body: unknown) => Call

/** Where a model's own endpoint points. */
interface ModelEndpoint {
  readonly tenantName: string
  readonly modelName: string
}

/** Throws EdgeError for what the body or the model's name lacks. `signal` ends a hint, too. */
export function readCall(
  deps: Deps,
  c: EdgeContext,
  parse: CallParser,
  identity: Identity,
  signal: AbortSignal,
): Promise<CallRead> {
  const reader = new CallReader({ deps, c, parse, identity, signal })
  const endpoint = endpointOf(c)
  return endpoint === null ? reader.readShared() : reader.readOwn(endpoint)
}

interface CallReaderOptions {
  readonly deps: Deps
  readonly c: EdgeContext
  readonly parse: CallParser
  readonly identity: Identity
  readonly signal: AbortSignal
}

class CallReader {
  readonly #with: CallReaderOptions
  /**
   * A client's retries under one key meet one version; without a name each request is drawn alone.
   */
  readonly #fallback: string

  constructor(given: CallReaderOptions) {
    this.#with = given
    const { c } = given
    this.#fallback = c.req.header('idempotency-key') ?? c.get('requestId')
  }

  async readShared(): Promise<CallRead> {
    const { deps } = this.#with
    const peek = new ModelPeek()
    const { call, body } = await this.#read((bytes) => {
      const name = peek.take(bytes)
      if (name !== null) void this.#hintName(name)
    })
    if (call.model === null) {
      const message = 'you must provide a model parameter'
      throw new EdgeError('invalid_request', message, { param: 'model' })
    }
    const caller = this.#callerOf(call.affinity)
    return { call, body, target: await deps.catalog.resolveName(caller, call.model) }
  }

  async readOwn(endpoint: ModelEndpoint): Promise<CallRead> {
    const { catalog } = this.#with.deps
    const deployed = await catalog.resolve(this.#callerOf(null), { ...endpoint, version: null })
    this.#hint(deployed)
    const { call, body } = await this.#read()
    const version = versionOf(call, endpoint)
    if (version === null && call.affinity === null) return { call, body, target: deployed }
    const target = await catalog.resolve(this.#callerOf(call.affinity), { ...endpoint, version })
    return { call, body, target }
  }

  #callerOf(affinity: string | null): ModelCaller {
    const { c, identity } = this.#with
    return { identity, affinity: affinity ?? this.#fallback, keepAlive: c.get('keepAlive') }
  }

  async #read(onBytes?: (bytes: Uint8Array) => void): Promise<{ call: Call; body: Uint8Array }> {
    const { c, parse } = this.#with
    const body = await readBytes(c.req.raw, REQUEST_BYTES_MAX, onBytes)
    return { call: parse(parseJson(body)), body }
  }

  /** Never rejects: the request itself will say what is wrong. */
  async #hintName(name: string): Promise<void> {
    const resolved = this.#with.deps.catalog.resolveName(this.#callerOf(null), name)
    const target = await resolved.catch(() => null)
    if (target !== null) this.#hint(target)
  }

  #hint({ adapter, baseModel, tenantId }: ModelTarget): void {
    if (adapter === null) return
    const { deps, c, signal } = this.#with
    const wish = { baseModel, tenantId, digest: adapter.digest }
    void deps.hosts.prefetch(wish, c.get('requestId'), signal)
  }
}

function endpointOf(c: EdgeContext): ModelEndpoint | null {
  const tenantName = c.req.param('tenant')
  const modelName = c.req.param('model')
  return tenantName === undefined || modelName === undefined ? null : { tenantName, modelName }
}

/**
 * The version that the body pins; null = the deployed one. Another model's name is not found here.
 */
function versionOf({ model }: Call, endpoint: ModelEndpoint): number | null {
  if (model === null) return null
  const reference = parseModelReference(model)
  const isThisModel =
    reference !== null &&
    reference.modelName === endpoint.modelName &&
    (reference.tenantName ?? endpoint.tenantName) === endpoint.tenantName
  if (!isThisModel) throw modelNotFound(model)
  return reference.version
}
