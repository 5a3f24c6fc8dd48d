/** Everything that routes use, built once per process or isolate from a config and a database. */
import type { Availability } from '#db/availability.ts'
import type { Db } from '#db/database.ts'
import { databaseTimeMs } from '#db/queries/time.ts'
import { Tracing } from '#tracing/tracing.ts'
import packageJson from '../package.json' with { type: 'json' }
import { Admission } from './admission/admission.ts'
import { Idempotency } from './admission/idempotency.ts'
import { Limiter } from './admission/limiter.ts'
import { UploadRate } from './admission/upload-quota.ts'
import { KeyHasher } from './auth/api-key.ts'
import { Authenticator } from './auth/authenticate.ts'
import { HostVerifier } from './auth/host-signature.ts'
import { Sessions } from './auth/session.ts'
import { Catalog } from './catalog/catalog.ts'
import { PoolClock } from './clock.ts'
import type { EdgeConfig } from './config.ts'
import { type Digests, webDigests } from './digests.ts'
import { HOST_PATIENCE, type HostPatience } from './limits.ts'
import type { Log } from './log.ts'
import { EdgeMetrics } from './metrics.ts'
import type { AssetTexts } from './pages/assets.ts'
import { CutOffWatch } from './pool/cut-off-watch.ts'
import { GrantSigner } from './pool/grant.ts'
import { HostCalls } from './pool/host-calls.ts'
import { HostChoice } from './pool/host-choice.ts'
import { HostClient } from './pool/host-client.ts'
import { HostCommands } from './pool/host-commands.ts'
import { HostHealth, type HostHealthOptions } from './pool/host-health.ts'
import { HostPace } from './pool/host-pace.ts'
import { fetchTransport, type HostTransport, tellForeign } from './pool/host-transport.ts'
import { PoolView } from './pool/pool-view.ts'
import { HostProber } from './pool/prober.ts'
import { RefusalMemory } from './pool/refusal-memory.ts'
import { RetryBudget } from './pool/retry-budget.ts'
import { UploadClient } from './pool/upload-client.ts'
import { VoidOutbox } from './pool/void-outbox.ts'
import { WishBook } from './pool/wish-book.ts'

export interface DepsInput {
  readonly config: EdgeConfig
  readonly db: Db
  /** Absent = nobody watches `db`: each failure of a statement is all that is known. */
  readonly availability?: Availability
  readonly fetch: typeof globalThis.fetch
  readonly log: Log
  /** The machine's clock. */
  readonly nowMs: () => number
  /** For durations; absent = `performance.now`. */
  readonly monotonicMs?: () => number
  /** How long a host may be silent; absent = HOST_PATIENCE. */
  readonly patience?: HostPatience
  /** Style and scripts of the pages; absent = they have none. */
  readonly assets?: AssetTexts
  /** Absent = WebCrypto's. */
  readonly digests?: Digests
  /** For calls to hosts; absent = `fetch`. */
  readonly transport?: HostTransport
}

export interface Deps extends DepsInput {
  /**
   * The pool's time, which is the database's: what is dated, counted per period or told to other
   * edges goes by it. It is the machine's own until `clock` has measured.
   */
  readonly nowMs: () => number
  readonly monotonicMs: () => number
  readonly clock: PoolClock
  /** How long the database is known to be away; null while it answers. */
  readonly downForMs: () => number | null
  readonly cutOff: CutOffWatch
  readonly metrics: EdgeMetrics
  readonly hasher: KeyHasher
  readonly sessions: Sessions
  readonly authenticator: Authenticator
  readonly hostVerifier: HostVerifier
  readonly pool: PoolView
  readonly health: HostHealth
  readonly catalog: Catalog
  readonly admission: Admission
  readonly idempotency: Idempotency
  readonly hosts: HostClient
  readonly hostCommands: HostCommands
  readonly wishes: WishBook
  readonly voids: VoidOutbox
  readonly uploads: UploadClient
  readonly uploadRate: UploadRate
  readonly tracing: Tracing
}

export function createDeps(input: DepsInput): Deps {
  const { config, db, availability, fetch, log, nowMs: wallMs } = input
  const { monotonicMs = () => performance.now(), patience = HOST_PATIENCE } = input
  const { digests = webDigests } = input
  const transport = tellForeign(input.transport ?? fetchTransport(fetch), log)
  const metrics = new EdgeMetrics()
  const clock = new PoolClock({ readMs: () => databaseTimeMs(db), wallMs, monotonicMs, log })
  const downForMs = () => availability?.downForMs() ?? null
  const cutOff = new CutOffWatch(monotonicMs)
  const { random } = Math
  const health = createHostHealth({ nowMs: monotonicMs, random, metrics, log })
  const pace = new HostPace(monotonicMs)
  const { probeMs } = patience
  const prober = new HostProber({ health, metrics, fetch, nowMs: monotonicMs, probeMs })
  const trust = { health, pace, prober, metrics }
  const pool = new PoolView({
    db,
    nowMs: clock.nowMs,
    monotonicMs,
    downForMs,
    log,
    ...trust,
    onHeard: (hostId, epoch) => choice.heard(hostId, epoch),
  })
  const choice = new HostChoice({ pool, nowMs: monotonicMs, metrics, log })
  const voids = new VoidOutbox({ db, metrics, log, nowMs: clock.nowMs })
  // Hosts check grants by their own clocks, which are set as this machine's is.
  const signer = new GrantSigner(config.poolSecret, wallMs, digests)
  const calls = new HostCalls({ signer, transport, metrics })
  const { keyPepper, operatorKey, baseModel } = config
  const isBaseModel = (name: string): boolean =>
    name === baseModel || pool.known().some((heartbeat) => heartbeat.base_model === name)
  const limiter = new Limiter({ db, metrics, nowMs: monotonicMs })
  const isCutOff = (startMs: number) => cutOff.isCutOff(startMs)
  const remembering = { db, nowMs: monotonicMs, downForMs, isCutOff }
  const hasher = new KeyHasher(keyPepper, digests)
  const sessions = new Sessions({ hasher, nowMs: clock.nowMs })
  availability?.listen((isUp, downMs) => {
    metrics.databaseChanges.add({ to: isUp ? 'up' : 'away' })
    if (isUp) void voids.flush()
    if (isUp) log('info', 'the database answers again', { away_ms: Math.round(downMs) })
    else log('error', 'the database does not answer: going on with what is known')
  })
  return {
    ...input,
    nowMs: clock.nowMs,
    monotonicMs,
    clock,
    downForMs,
    cutOff,
    metrics,
    pool,
    health,
    hasher,
    sessions,
    authenticator: new Authenticator({
      ...remembering,
      hasher,
      operatorKey,
      sessions,
      metrics,
    }),
    hostVerifier: new HostVerifier(config.acceptedSecrets, wallMs),
    catalog: new Catalog({ ...remembering, isBaseModel }),
    hosts: new HostClient({
      pool,
      choice,
      ...trust,
      budget: new RetryBudget(monotonicMs),
      refusals: new RefusalMemory(monotonicMs),
      calls,
      voids,
      patience,
      nowMs: monotonicMs,
      random,
    }),
    admission: new Admission({ limiter, metrics, log, nowMs: monotonicMs }),
    idempotency: new Idempotency({ db, log }),
    voids,
    hostCommands: new HostCommands(calls),
    wishes: new WishBook(),
    uploads: new UploadClient({ pool, signer, transport }),
    uploadRate: new UploadRate({
      callsPerMinute: config.tenantUploadsPerMinute,
      nowMs: monotonicMs,
    }),
    tracing: createTracing({ config, fetch, log, metrics, nowMs: clock.nowMs, monotonicMs }),
  }
}

function createTracing({
  config,
  fetch,
  nowMs,
  monotonicMs,
  metrics,
  log,
}: Pick<Deps, 'config' | 'fetch' | 'nowMs' | 'monotonicMs' | 'metrics' | 'log'>): Tracing {
  return new Tracing({
    settings: config.tracing,
    resource: { serviceName: 'nozzle-edge', serviceVersion: packageJson.version },
    fetch,
    nowMs,
    monotonicMs,
    onOutcome: (outcome, spans) => metrics.spans.add({ outcome }, spans),
    onChange: (reason) => {
      if (reason === null) log('info', 'spans are collected again')
      else log('warn', 'spans are not collected', { reason })
    },
  })
}

function createHostHealth({
  metrics,
  log,
  ...options
}: Pick<HostHealthOptions, 'nowMs' | 'random'> & Pick<Deps, 'metrics' | 'log'>): HostHealth {
  return new HostHealth({
    ...options,
    onEjected: (hostId, reason, forMs) => {
      metrics.ejections.add({ reason })
      log('warn', 'a host is taken out', { host_id: hostId, reason, for_ms: Math.round(forMs) })
    },
    onReturned: (hostId) => {
      metrics.ejections.add({ reason: 'returned' })
      log('info', 'a host is back', { host_id: hostId })
    },
  })
}
