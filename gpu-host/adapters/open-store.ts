/** The store that the configuration names, guarded, and where files wait to enter it. */
import type { Clock } from '../clock.ts'
import { errorText, type Log } from '../log.ts'
import { GuardedStore } from './guarded-store.ts'
import { S3Bucket } from './s3-bucket.ts'
import { S3Staging } from './s3-staging.ts'
import { S3Store } from './s3-store.ts'
import type { StoreAddress } from './store-address.ts'
import { type AdapterStore, DirectoryStore } from './store-tier.ts'

export interface StoreParts {
  readonly clock: Clock
  readonly log: Log
  readonly fetch: typeof globalThis.fetch
}

export interface OpenStore {
  readonly store: AdapterStore
  /** null = files cannot be sent to it. */
  readonly staging: S3Staging | null
}

/** A store that cannot be reached is no reason not to start: it is told in the log. */
export function openStore(address: StoreAddress, { clock, log, fetch }: StoreParts): OpenStore {
  if (address.kind === 'directory') {
    const store = new DirectoryStore(address.directory)
    return { store: new GuardedStore({ store, clock, log }), staging: null }
  }
  const { s3: settings } = address
  const bucket = new S3Bucket({ settings, clock, fetch, random: Math.random })
  const query = { 'list-type': '2', 'max-keys': '1', prefix: settings.prefix }
  bucket.sendForText({ method: 'GET', key: '', query }).then(
    () => log('info', 'adapter store open', { bucket: settings.bucket, prefix: settings.prefix }),
    (error: unknown) => log('error', 'adapter store not usable', { reason: errorText(error) }),
  )
  return {
    store: new GuardedStore({ store: new S3Store(bucket), clock, log }),
    staging: new S3Staging({ bucket, clock, log }),
  }
}
