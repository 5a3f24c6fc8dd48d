/** Counts and times what is fetched of a store; changes nothing of it. */
import type { Clock } from '../clock.ts'
import type { HostMetrics } from '../telemetry/metrics.ts'
import type { AdapterStore } from './store-tier.ts'

export interface MeasuredStoreOptions {
  readonly store: AdapterStore
  readonly metrics: Pick<HostMetrics, 'storeFetches' | 'storeFetchSeconds' | 'storeFetchedBytes'>
  readonly clock: Clock
}

export class MeasuredStore implements AdapterStore {
  readonly #options: MeasuredStoreOptions

  constructor(options: MeasuredStoreOptions) {
    this.#options = options
  }

  async get(digest: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | null> {
    const { store, metrics, clock } = this.#options
    const startUs = clock.nowUs()
    try {
      const bytes = await store.get(digest, signal)
      if (bytes !== null) return this.#read(bytes, startUs, signal)
      metrics.storeFetches.inc({ outcome: 'missing' })
      return null
    } catch (error) {
      metrics.storeFetches.inc({ outcome: signal.aborted ? 'abandoned' : 'failed' })
      throw error
    }
  }

  put(digest: string, path: string): Promise<void> {
    return this.#options.store.put(digest, path)
  }

  async *#read(
    bytes: AsyncIterable<Uint8Array>,
    startUs: number,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array, void, void> {
    const { metrics, clock } = this.#options
    let outcome: 'found' | 'failed' | 'abandoned' = 'abandoned'
    try {
      for await (const chunk of bytes) {
        metrics.storeFetchedBytes.inc(chunk.byteLength)
        yield chunk
      }
      outcome = 'found'
      metrics.storeFetchSeconds.observe((clock.nowUs() - startUs) / 1e6)
    } catch (error) {
      if (!signal.aborted) outcome = 'failed'
      throw error
    } finally {
      metrics.storeFetches.inc({ outcome })
    }
  }
}
