import { describe, expect, it } from 'vitest'
import type { RequestFacts } from '../protocol.ts'
import { createUsageEvent } from '../telemetry/usage-event.ts'
import { OpenRequests } from './open-requests.ts'
import type { JournalRecord } from './record.ts'

const AT = '2026-01-01T00:00:00.000Z'

function facts(name: string): RequestFacts {
  return {
    ...{ request_id: `req_${name}`, attempt: 1, tenant_id: 'ten_a', key_id: null, model: 'm' },
    ...{ model_id: null, adapter_version_id: null, adapter_digest: null, base_model: 'base' },
    ...{ price_version_id: null, lease_ids: [] },
  }
}

const opened = (n: number, name: string): JournalRecord => {
  return { t: 'opened', n, at: AT, request: facts(name) }
}
const progress = (n: number, tokens: number): JournalRecord => {
  return { t: 'progress', rows: [[n, 3, tokens, 0]] }
}
function settled(n: number, name: string): JournalRecord {
  const event = createUsageEvent({
    request: facts(name),
    ...{ hostId: 'hst_a', epoch: 2, finish: 'error', source: 'none', origin: 'recovered' },
    totals: { promptRows: 3, cachedPromptTokens: 0, completionTokens: 5, gpuUs: 0 },
    ...{ queueUs: 0, ttftUs: 1, swapUs: 0, adapterBytes: 0, startedAt: AT, endedAt: AT },
  })
  return { t: 'settled', n, code: 'host_restarted', event }
}

function openAfter(records: readonly JournalRecord[]): string[] {
  const open = new OpenRequests()
  for (const record of records) open.apply(record)
  return open.list().map((entry) => entry.opened.request.request_id)
}

describe('OpenRequests', () => {
  // A start numbers what it found open anew, in the head of its segment; here that head is lost.
  it('ends the request that a record names, not the one that had its handle in another life', () => {
    const life = [opened(2, 'a'), progress(2, 1), opened(3, 'b'), progress(3, 1)]
    expect(openAfter([...life, settled(3, 'a')])).toEqual(['req_b'])
    expect(openAfter([...life, settled(3, 'a'), settled(2, 'b')])).toEqual([])
  })

  it('does not take an ending without a bill for that of a request with tokens', () => {
    const ending: JournalRecord = { t: 'settled', n: 0, code: 'host_draining', event: null }
    expect(openAfter([opened(0, 'a'), progress(0, 2), ending])).toEqual(['req_a'])
    expect(openAfter([opened(0, 'a'), ending])).toEqual([])
  })
})
