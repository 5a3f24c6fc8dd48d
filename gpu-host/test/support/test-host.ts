/**
 * A whole host on loopback with the fake engine, and what an edge does to it: signs grants, reads
 * streams, takes usage and heartbeats (through an injected fetch).
 */

import { createHash, randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SignJWT } from 'jose'
import type { AdapterIntake } from '../../adapter-upload.ts'
import { systemClock } from '../../clock.ts'
import { readConfig } from '../../config.ts'
import { Host, type HostParts, type HostSettings } from '../../host.ts'
import { withHostId } from '../../host-id.ts'
import type { Disk } from '../../journal/disk.ts'
import type { LogFields, LogLevel } from '../../log.ts'
import {
  EDGE_ROUTES,
  type GenerateEvent,
  type GenerateRequest,
  type GrantClaims,
  generateEvent,
  type Heartbeat,
  HOST_ROUTES,
  heartbeat,
  samplingOptions,
  type UsageEvent,
  usageBatch,
} from '../../protocol.ts'
import { serveNative } from '../../serving-engine.ts'
import { createMetrics } from '../../telemetry/metrics.ts'
import { FakeEngine, type FakeEngineOptions } from './fake-engine.ts'
import { type AdapterScript, ScriptedAdapters } from './scripted-adapters.ts'

export const POOL_SECRET = 'a pool secret that is long enough to be one'

export interface TestHostOptions {
  readonly engine?: FakeEngineOptions
  readonly adapters?: ReadonlyMap<string, AdapterScript>
  readonly intake?: AdapterIntake
  /** What it serves with, instead of the fake engine and scripted adapters. */
  readonly parts?: Pick<HostParts, 'engine' | 'adapters' | 'intake'>
  readonly settings?: Partial<HostSettings>
  readonly directory?: string
  readonly isEdgeAway?: () => boolean
  /** The edge has heard of a newer start of this host. */
  readonly isEpochStale?: () => boolean
  readonly disk?: Disk
}

export class TestHost {
  readonly host: Host
  readonly engine: FakeEngine
  readonly adapters: ScriptedAdapters
  readonly directory: string
  readonly usage: UsageEvent[] = []
  readonly heartbeats: Heartbeat[] = []
  readonly logs: { level: LogLevel; message: string; fields: LogFields }[] = []

  private constructor(options: TestHostOptions) {
    this.directory = options.directory ?? mkdtempSync(join(tmpdir(), 'nozzle-host-'))
    this.engine = new FakeEngine(options.engine)
    this.adapters = new ScriptedAdapters(this.engine, systemClock, options.adapters ?? new Map())
    const config = withHostId(
      readConfig({
        NOZZLE_POOL_SECRET: POOL_SECRET,
        NOZZLE_DATA_DIR: this.directory,
        NOZZLE_BASE_MODEL_PATH: 'none',
        NOZZLE_BASE_MODEL_NAME: 'fake-base',
        NOZZLE_EDGE_URL: 'http://edge.invalid',
        NOZZLE_HOST_ID: 'hst_test',
        NOZZLE_JOURNAL_SEGMENT_BYTES_MAX: '1000000',
      }),
    )
    this.host = new Host({
      settings: { ...config, ...options.settings },
      engine: serveNative(this.engine),
      adapters: this.adapters,
      intake: options.intake ?? { install: () => Promise.reject(new Error('no intake')) },
      ...options.parts,
      clock: systemClock,
      ...(options.disk === undefined ? {} : { disk: options.disk }),
      log: (level, message, fields) => this.logs.push({ level, message, fields: fields ?? {} }),
      fetch: async (input, init) => {
        if (options.isEdgeAway?.()) throw new Error('the edge is away')
        const isBeat = String(input).endsWith(EDGE_ROUTES.heartbeat)
        if (isBeat && options.isEpochStale?.()) return epochStale()
        return this.#edge(String(input), JSON.parse(String(init?.body)))
      },
      version: 'test',
      randomSeed: () => 1,
      metrics: createMetrics({ withProcess: false }),
    })
  }

  static async start(options: TestHostOptions = {}): Promise<TestHost> {
    const test = new TestHost(options)
    await test.host.listen()
    return test
  }

  async stop(): Promise<void> {
    await this.host.stop()
    rmSync(this.directory, { recursive: true, force: true })
  }

  #edge(url: string, body: unknown): Response {
    if (url.endsWith(EDGE_ROUTES.heartbeat)) {
      this.heartbeats.push(heartbeat.parse(body))
      return Response.json({})
    }
    const { events } = usageBatch.parse(body)
    this.usage.push(...events)
    return Response.json({ inserted: events.length, known: 0 })
  }

  async metric(name: string): Promise<number> {
    const text = await (await fetch(this.host.url + HOST_ROUTES.metrics)).text()
    const line = text.split('\n').find((entry) => entry.startsWith(`${name} `))
    return Number(line?.split(' ')[1] ?? Number.NaN)
  }

  /** POSTs with a good grant; `claims` overrides, `init` adds. */
  async post(
    route: string,
    body: string | FormData,
    claims: Partial<GrantClaims> = {},
    init: RequestInit = {},
  ): Promise<Response> {
    const grant = await signGrant({ route, ...bodyClaim(body), ...claims })
    return fetch(this.host.url + route, {
      method: 'POST',
      body,
      ...init,
      headers: { authorization: `Grant ${grant}` },
    })
  }

  async generate(request: GenerateRequest, init: RequestInit = {}): Promise<Response> {
    return this.post(HOST_ROUTES.generate, JSON.stringify(request), claimsOf(request), init)
  }
}

function epochStale(): Response {
  const error = { message: 'a newer start', type: 'x', param: null, code: 'host_epoch_stale' }
  return Response.json({ error }, { status: 409 })
}

function bodyClaim(body: string | FormData): Pick<GrantClaims, 'body_sha256'> {
  if (typeof body !== 'string') return { body_sha256: null }
  return { body_sha256: createHash('sha256').update(body).digest('hex') }
}

export function claimsOf(request: GenerateRequest): Partial<GrantClaims> {
  const { request_id, tenant_id, key_id, adapter_digest } = request
  return { request_id, tenant_id, key_id, adapter_digest }
}

export async function signGrant(
  claims: Partial<GrantClaims>,
  secret: string = POOL_SECRET,
): Promise<string> {
  const iat = Math.floor(Date.now() / 1000)
  return new SignJWT({
    aud: 'host',
    route: HOST_ROUTES.generate,
    request_id: `req_${randomUUID()}`,
    attempt: 1,
    tenant_id: null,
    key_id: null,
    adapter_digest: null,
    max_tokens: null,
    body_sha256: null,
    nonce: randomUUID(),
    iat,
    exp: iat + 30,
    ...claims,
  })
    .setProtectedHeader({ alg: 'HS256' })
    .sign(new TextEncoder().encode(secret))
}

export function createRequest(overrides: Partial<GenerateRequest> = {}): GenerateRequest {
  return {
    request_id: `req_${randomUUID()}`,
    attempt: 1,
    tenant_id: 'ten_a',
    key_id: 'key_a',
    model: 'fake-base',
    model_id: null,
    adapter_version_id: null,
    adapter_digest: null,
    base_model: 'fake-base',
    price_version_id: null,
    lease_ids: [],
    input: { kind: 'chat', messages: [{ role: 'user', content: 'hello' }] },
    sampling: samplingOptions.parse({ temperature: 0 }),
    n: 1,
    max_tokens: 8,
    stop: [],
    deadline_ms: null,
    tenant_weight: 1,
    is_whole: false,
    ignore_eos: false,
    logprobs: false,
    top_logprobs: 0,
    ...overrides,
  }
}

/** Events as they arrive. Rejects when the stream is cut before its last event. */
export async function* readEvents(response: Response): AsyncGenerator<GenerateEvent> {
  if (response.body === null) throw new Error('no body')
  let text = ''
  for await (const bytes of response.body.pipeThrough(new TextDecoderStream())) {
    text += bytes
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const frame = text.slice(0, end)
      text = text.slice(end + 2)
      if (frame.startsWith('data: ')) yield generateEvent.parse(JSON.parse(frame.slice(6)))
    }
  }
}

export async function allEvents(response: Response): Promise<GenerateEvent[]> {
  const events: GenerateEvent[] = []
  for await (const event of readEvents(response)) events.push(event)
  return events
}

export function textOf(events: readonly GenerateEvent[]): string {
  return events.map((event) => (event.type === 'chunk' ? event.text : '')).join('')
}
