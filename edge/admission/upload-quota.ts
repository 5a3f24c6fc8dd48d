/**
 * What a tenant's own keys may upload, so that no tenant keeps the hosts converting or fills the
 * store: calls a minute, counted by each edge, and what is stored, as the database counts it before
 * an upload. Packs are removed by nobody, so what a removed model had counts on. The operator may
 * upload what it likes.
 */
import type { StoredAdapters } from '#db/queries/adapter-versions.ts'
import { putLast } from '../bounded-map.ts'
import { EdgeError } from '../errors.ts'
import { ACCOUNTS_REMEMBERED_MAX, RATE_SLICE_MS, TENANT_VERSIONS_MAX } from '../limits.ts'
import { RateWindow } from './rate-window.ts'

export class UploadRate {
  readonly #callsPerMinute: number
  readonly #nowMs: () => number
  readonly #windows = new Map<string, RateWindow>()

  /** `nowMs`: monotonic. */
  constructor(options: { readonly callsPerMinute: number; readonly nowMs: () => number }) {
    this.#callsPerMinute = options.callsPerMinute
    this.#nowMs = options.nowMs
  }

  /** Counts a call. Throws `rate_limit_exceeded` for one too many, which counts for nothing. */
  take(tenantId: string): void {
    const nowMs = this.#nowMs()
    const window = this.#windows.get(tenantId) ?? new RateWindow()
    putLast(this.#windows, tenantId, window, ACCOUNTS_REMEMBERED_MAX)
    if (window.sum(nowMs) >= BigInt(this.#callsPerMinute)) {
      const message = `Too many uploads: a tenant may make ${this.#callsPerMinute} calls a minute.`
      throw new EdgeError('rate_limit_exceeded', message, { retryAfterMs: RATE_SLICE_MS })
    }
    window.add(nowMs, 1n)
  }
}

/** Throws `insufficient_quota` where a tenant has as much stored as it may. */
export function assertRoom(stored: StoredAdapters, bytesMax: number): void {
  const { bytes, versions } = stored
  const isFull = bytes >= bytesMax || versions >= TENANT_VERSIONS_MAX
  if (!isFull) return
  const found = `${bytes} bytes in ${versions} versions`
  const limit = `${bytesMax} bytes and ${TENANT_VERSIONS_MAX} versions`
  const message = `The tenant's adapters take ${found}; it may have ${limit}. Ask the operator.`
  throw new EdgeError('insufficient_quota', message)
}
