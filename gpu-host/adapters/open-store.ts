/** The store that the configuration names, guarded, and where files wait to enter it. */
import type { Clock } from '../clock.ts'
import { errorText, type Log } from '../log.ts'
import type { HostMetrics } from '../telemetry/metrics.ts'
import { GuardedStore } from './guarded-store.ts'
import { MeasuredStore } from './measured-store.ts'
import { S3Bucket } from './s3-bucket.ts'
import { S3Staging } from './s3-staging.ts'
import { S3Store } from './s3-store.ts'
import type { StoreAddress } from './store-address.ts'
import { type AdapterStore, DirectoryStore } from './store-tier.ts'

export interface StoreParts {
  readonly clock: Clock
  readonly log: Log
  readonly fetch: typeof globalThis.fetch
  /** Absent = nobody asks. */
  readonly metrics?: HostMetrics
}

export interface OpenStore {
  readonly store: AdapterStore
  /** null = files cannot be sent to it. */
  readonly staging: S3Staging | null
}

/** A store that cannot be reached is no reason not to start: it is told in the log. */
export function openStore(address: StoreAddress, parts: StoreParts): OpenStore {
  const { clock, log, fetch } = parts
  if (address.kind === 'directory') {
    const store = new DirectoryStore(address.directory)
    return { store: guarded(store, parts), staging: null }
  }
  const { s3: settings } = address
  const bucket = new S3Bucket({ settings, clock, fetch, random: Math.random })
  const query = { 'list-type': '2', 'max-keys': '1', prefix: settings.prefix }
  bucket.sendForText({ method: 'GET', key: '', query }).then(
    () => log('info', 'adapter store open', { bucket: settings.bucket, prefix: settings.prefix }),
    (error: unknown) => log('error', 'adapter store not usable', { reason: errorText(error) }),
  )
  return {
    store: guarded(new S3Store(bucket), parts),
    staging: new S3Staging({ bucket, clock, log }),
  }
}

function guarded(store: AdapterStore, { clock, log, metrics }: StoreParts): AdapterStore {
  if (metrics === undefined) return new GuardedStore({ store, clock, log })
  const onChange = (isAway: boolean): void => metrics.storeBreakerOpen.set(Number(isAway))
  const guard = new GuardedStore({ store, clock, log, onChange })
  return new MeasuredStore({ store: guard, metrics, clock })
}
