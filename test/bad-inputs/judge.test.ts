import { describe, expect, it } from 'vitest'
import { EITHER, LEGAL, REFUSED, refusedAt } from './bad-case.ts'
import { judge, type Reply } from './judge.ts'

const refusal = (status: number, param: string | null): Reply => ({
  is: 'answered',
  status,
  body: JSON.stringify({ error: { message: 'no', type: 'x', code: 'invalid_request', param } }),
})
const ok: Reply = { is: 'answered', status: 200, body: '{}' }
const lost: Reply = { is: 'lost', reason: 'reset' }

describe('judge', () => {
  it.each([
    [refusal(400, 'n'), refusedAt('n'), 'refused'],
    [refusal(422, null), refusedAt(null), 'refused'],
    [refusal(400, 'messages.0.x'), refusedAt(/^messages/), 'refused'],
    [refusal(413, null), EITHER, 'refused'],
    [ok, EITHER, 'legal'],
    [ok, LEGAL, 'legal'],
    [lost, { is: 'closed' }, 'closed'],
    [{ is: 'answered', status: 431, body: '' }, { is: 'closed' }, 'refused'],
    [{ is: 'exited', code: 4, words: 'error: no' }, REFUSED, 'refused'],
  ] as const)('takes what may come, case %#', (reply, expected, is) => {
    expect(judge(reply, expected).is).toBe(is)
  })

  it.each([
    ['a 500', refusal(500, 'n'), refusedAt('n')],
    ['a 503', refusal(503, null), EITHER],
    ['another field', refusal(400, 'm'), refusedAt('n')],
    ['no field', refusal(400, null), refusedAt(/./)],
    ['a field where there is none', refusal(400, 'n'), refusedAt(null)],
    ['what must be refused', ok, REFUSED],
    ['what must be taken', refusal(400, 'n'), LEGAL],
    ['another shape', { is: 'answered', status: 400, body: '{"error":"no"}' }, REFUSED],
    ['no shape', { is: 'answered', status: 400, body: '' }, REFUSED],
    ['a redirect', { is: 'answered', status: 302, body: '' }, EITHER],
    ['silence', lost, EITHER],
    ['a command that did it', { is: 'exited', code: 0, words: '' }, REFUSED],
    ['a command that broke', { is: 'exited', code: 1, words: 'error' }, REFUSED],
  ] as const)('finds %s wrong', (_, reply, expected) => {
    expect(judge(reply, expected).is).toBe('wrong')
  })
})
