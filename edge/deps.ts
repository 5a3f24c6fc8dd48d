/** Everything that routes use, built once per process or isolate from a config and a database. */
import type { Db } from '#db/database.ts'
import { Authenticator } from './auth/authenticate.ts'
import { HostVerifier } from './auth/host-signature.ts'
import { Catalog } from './catalog/catalog.ts'
import type { EdgeConfig } from './config.ts'
import type { Log } from './log.ts'
import { EdgeMetrics } from './metrics.ts'
import { GrantSigner } from './pool/grant.ts'
import { HostClient } from './pool/host-client.ts'
import { PoolView } from './pool/pool-view.ts'
import { UploadClient } from './pool/upload-client.ts'

export interface DepsInput {
  readonly config: EdgeConfig
  readonly db: Db
  readonly fetch: typeof globalThis.fetch
  readonly log: Log
  readonly nowMs: () => number
}

export interface Deps extends DepsInput {
  readonly metrics: EdgeMetrics
  readonly authenticator: Authenticator
  readonly hostVerifier: HostVerifier
  readonly pool: PoolView
  readonly catalog: Catalog
  readonly hosts: HostClient
  readonly uploads: UploadClient
}

export function createDeps(input: DepsInput): Deps {
  const { config, db, fetch, nowMs } = input
  const metrics = new EdgeMetrics()
  const pool = new PoolView({ db, nowMs })
  const signer = new GrantSigner(config.poolSecret, nowMs)
  const { keyPepper, operatorKey, baseModel } = config
  const isBaseModel = (name: string): boolean =>
    name === baseModel || pool.known().some((heartbeat) => heartbeat.base_model === name)
  return {
    ...input,
    metrics,
    pool,
    authenticator: new Authenticator({ db, keyPepper, operatorKey, metrics, nowMs }),
    hostVerifier: new HostVerifier(config.poolSecret, nowMs),
    catalog: new Catalog({ db, nowMs, isBaseModel }),
    hosts: new HostClient({ pool, signer, metrics, fetch }),
    uploads: new UploadClient({ pool, signer, fetch }),
  }
}
