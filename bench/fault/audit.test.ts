import { describe, expect, it } from 'vitest'
import { createEvent } from '../../db/test/support/records.ts'
import { type AuditFacts, audit, isDrained } from './audit.ts'
import type { Charge } from './charges.ts'
import type { Delivery } from './client.ts'

const event = { ...createEvent('ten_a', { request_id: 'req_1' }), lease_ids: [] }

function charge(change: Partial<Charge> = {}): Charge {
  return {
    request_id: 'req_1',
    key_id: 'key_1',
    attempt: 1,
    prompt_tokens: 20,
    completion_tokens: 10,
    net_pusd: 700n,
    worth_pusd: 700n,
    ...change,
  }
}

function delivery(change: Partial<Delivery> = {}): Delivery {
  return {
    number: 3,
    asked: { isStream: true, tokens: 10, choices: 1 },
    keyId: 'key_1',
    promptTokens: 20,
    requestId: 'req_1',
    status: 200,
    tokens: 10,
    isWhole: true,
    toldTokens: 10,
    ...change,
  }
}

function facts(change: Partial<AuditFacts> = {}): AuditFacts {
  return {
    settled: [event],
    charges: [charge()],
    deliveries: [delivery()],
    victimOf: () => 'host',
    handedOver: () => null,
    ...change,
  }
}

const cut = { isWhole: false, toldTokens: null } as const

describe('audit', () => {
  it('finds nothing where journal, ledger and client agree', () => {
    expect(audit(facts())).toMatchObject({ lost: 0, double: 0, overruns: 0, findings: [] })
    expect(isDrained(facts())).toBe(true)
  })

  it('finds a settled event that the ledger lacks, and tokens that nobody charged', () => {
    const none = facts({ charges: [] })
    expect(isDrained(none)).toBe(false)
    expect(audit(none)).toMatchObject({ lost: 3, double: 0 })
    const short = facts({ deliveries: [delivery({ ...cut, tokens: 11 })] })
    expect(audit(short)).toMatchObject({ lost: 1, findings: [{ number: 3, kind: 'lost' }] })
  })

  it('finds a superseded attempt that is still charged, and a charge that is not its price', () => {
    const both = [charge(), charge({ attempt: 2 })]
    expect(audit(facts({ charges: both }))).toMatchObject({ double: 1, lost: 0 })
    const reversed = [charge({ net_pusd: 0n }), charge({ attempt: 2 })]
    expect(audit(facts({ charges: reversed }))).toMatchObject({ double: 0, lost: 0 })
    const twice = [charge({ net_pusd: 1400n })]
    expect(audit(facts({ charges: twice }))).toMatchObject({ double: 1 })
  })

  it('counts chunks charged and not delivered, also of requests whose headers never came', () => {
    const asked = { isStream: true, tokens: 10, choices: 2 }
    const overrun = facts({ deliveries: [delivery({ ...cut, asked, tokens: 6 })] })
    expect(audit(overrun)).toMatchObject({ worstOverrunChunks: { host: 2 }, overruns: 1, lost: 0 })
    const headless = facts({ deliveries: [delivery({ ...cut, requestId: null, tokens: 0 })] })
    expect(audit(headless)).toMatchObject({ worstOverrunChunks: { host: 10 } })
  })

  it('counts what a dying edge took along apart from what its host overran', () => {
    const report = audit(
      facts({
        deliveries: [delivery({ ...cut, tokens: 6 })],
        victimOf: () => 'edge',
        handedOver: () => 9,
      }),
    )
    expect(report).toMatchObject({ edgeLagChunks: 3, worstOverrunChunks: { edge: 1 }, overruns: 0 })
  })
})
