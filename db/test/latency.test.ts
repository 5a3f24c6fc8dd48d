/** Each suite on every database; periods of their own keep the tests apart. */
import { describe, expect, it } from 'vitest'
import { createId } from '../ids.ts'
import { countLatencies, LATENCY_BOUNDS_US } from '../queries/latency.ts'
import { recordUsageEvents } from '../queries/usage.ts'
import { describeOnEachDatabase } from './support/database.ts'
import { addTenant, createEvent } from './support/records.ts'

describeOnEachDatabase((db) => {
  describe('countLatencies', () => {
    it('puts each attempt of the period into the bucket of its time, by source', async () => {
      const { id } = await addTenant(db())
      const startMs = Date.now() - 3_600_000
      const at = (ms: number, more: object) =>
        createEvent(id, { request_id: createId('req', startMs + ms), ...more })
      await recordUsageEvents(db(), [
        at(0, { adapter_source: 'ram', ttft_us: 999, swap_us: 1000 }),
        at(1, { adapter_source: 'ram', ttft_us: 1000, swap_us: 0 }),
        at(2, { adapter_source: 'slot', ttft_us: null, swap_us: 0 }),
        at(3, { adapter_source: 'slot', ttft_us: 60_000_000, swap_us: 0 }),
        at(4, { adapter_source: 'slot', ttft_us: 60_000_000, swap_us: 0, source: 'recovered' }),
        at(5, { adapter_source: 'slot', ttft_us: 60_000_000, swap_us: 0 }),
      ])
      const period = { start: new Date(startMs), end: new Date(startMs + 5) }
      const counts = (...at: number[]) => LATENCY_BOUNDS_US.concat(0).map((_, i) => at[i] ?? 0)
      const last = LATENCY_BOUNDS_US.length
      expect(await countLatencies(db(), period)).toEqual([
        { kind: 'swap', source: 'ram', counts: counts(0, 1) },
        { kind: 'ttft', source: 'ram', counts: counts(1, 1) },
        { kind: 'ttft', source: 'slot', counts: counts(...Array(last).fill(0), 1) },
      ])
    })
  })
})
