/** Everything that routes use, built once per process or isolate from a config and a database. */
import type { Availability } from '#db/availability.ts'
import type { Db } from '#db/database.ts'
import { databaseTimeMs } from '#db/queries/time.ts'
import { Admission } from './admission/admission.ts'
import { Idempotency } from './admission/idempotency.ts'
import { Limiter } from './admission/limiter.ts'
import { Authenticator } from './auth/authenticate.ts'
import { HostVerifier } from './auth/host-signature.ts'
import { Catalog } from './catalog/catalog.ts'
import { PoolClock } from './clock.ts'
import type { EdgeConfig } from './config.ts'
import { HOST_PATIENCE, type HostPatience } from './limits.ts'
import type { Log } from './log.ts'
import { EdgeMetrics } from './metrics.ts'
import { GrantSigner } from './pool/grant.ts'
import { HostChoice } from './pool/host-choice.ts'
import { HostClient } from './pool/host-client.ts'
import { PoolView } from './pool/pool-view.ts'
import { UploadClient } from './pool/upload-client.ts'
import { VoidOutbox } from './pool/void-outbox.ts'

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
  readonly metrics: EdgeMetrics
  readonly authenticator: Authenticator
  readonly hostVerifier: HostVerifier
  readonly pool: PoolView
  readonly catalog: Catalog
  readonly admission: Admission
  readonly idempotency: Idempotency
  readonly hosts: HostClient
  readonly voids: VoidOutbox
  readonly uploads: UploadClient
}

export function createDeps(input: DepsInput): Deps {
  const { config, db, availability, fetch, log, nowMs: wallMs } = input
  const { monotonicMs = () => performance.now(), patience = HOST_PATIENCE } = input
  const metrics = new EdgeMetrics()
  const clock = new PoolClock({ readMs: () => databaseTimeMs(db), wallMs, monotonicMs, log })
  const downForMs = () => availability?.downForMs() ?? null
  const pool = new PoolView({ db, nowMs: clock.nowMs, downForMs })
  const choice = new HostChoice(pool)
  const voids = new VoidOutbox({ db, metrics, log, nowMs: clock.nowMs })
  // Hosts check grants by their own clocks, which are set as this machine's is.
  const signer = new GrantSigner(config.poolSecret, wallMs)
  const { keyPepper, operatorKey, baseModel } = config
  const isBaseModel = (name: string): boolean =>
    name === baseModel || pool.known().some((heartbeat) => heartbeat.base_model === name)
  const limiter = new Limiter({ db, metrics, nowMs: monotonicMs })
  const remembering = { db, nowMs: monotonicMs, downForMs }
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
    metrics,
    pool,
    authenticator: new Authenticator({ ...remembering, keyPepper, operatorKey, metrics }),
    hostVerifier: new HostVerifier(config.poolSecret, wallMs),
    catalog: new Catalog({ ...remembering, isBaseModel }),
    hosts: new HostClient({ pool, choice, signer, metrics, voids, fetch, patience }),
    admission: new Admission({ limiter, metrics, log, nowMs: monotonicMs }),
    idempotency: new Idempotency({ db, log }),
    voids,
    uploads: new UploadClient({ pool, signer, fetch }),
  }
}
