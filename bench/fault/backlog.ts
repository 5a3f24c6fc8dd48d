/** A backlog of usage as a host has it after a long outage: settled, journalled, not shipped. */
import { createEvent } from '../../db/test/support/records.ts'
import { Journal } from '../../gpu-host/journal/journal.ts'
import { journalOptions, opened } from '../../gpu-host/test/support/journal-records.ts'

const REQUESTS_PER_WRITE = 500

/** Adds to the journal of a host that is not running. */
export function journalBacklog(directory: string, tenantId: string, count: number): void {
  const journal = new Journal({ ...journalOptions(directory), segmentBytesMax: 16 * 1024 * 1024 })
  for (let first = 0; first < count; first += REQUESTS_PER_WRITE) {
    const size = Math.min(REQUESTS_PER_WRITE, count - first)
    const records = Array.from({ length: size }, (_, i) => {
      const event = createEvent(tenantId, { base_model: 'fake-base', epoch: journal.epoch })
      const begun = opened(first + i)
      const { lease_ids = [], adapter_bytes = 0 } = event
      const settled = { ...event, lease_ids: [...lease_ids], adapter_bytes }
      const request = { ...begun.request, request_id: event.request_id, tenant_id: tenantId }
      return [
        { ...begun, request },
        { t: 'settled', n: first + i, code: null, event: settled },
      ] as const
    })
    journal.append(records.flat())
  }
  journal.close()
}
