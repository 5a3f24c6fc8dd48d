import { describe, expect, it } from 'vitest'
import { ACCOUNTS_REMEMBERED_MAX, TENANT_VERSIONS_MAX } from '../limits.ts'
import { assertRoom, UploadRate } from './upload-quota.ts'

const refused = expect.objectContaining({ code: 'rate_limit_exceeded', status: 429 })

describe('UploadRate', () => {
  it('lets a tenant make so many calls in any minute, and others theirs', () => {
    let nowMs = 0
    const rate = new UploadRate({ callsPerMinute: 3, nowMs: () => nowMs })
    for (let call = 0; call < 3; call++) rate.take('ten_a')
    for (let call = 0; call < 5; call++) expect(() => rate.take('ten_a')).toThrow(refused)
    rate.take('ten_b')
    nowMs = 59_000
    expect(() => rate.take('ten_a')).toThrow(refused)
    // What was refused has not counted.
    nowMs = 66_000
    for (let call = 0; call < 3; call++) rate.take('ten_a')
    expect(() => rate.take('ten_a')).toThrow(refused)
  })

  it('remembers a bounded number of tenants', () => {
    const rate = new UploadRate({ callsPerMinute: 1, nowMs: () => 0 })
    rate.take('ten_first')
    for (let i = 0; i < ACCOUNTS_REMEMBERED_MAX; i++) rate.take(`ten_${i}`)
    rate.take('ten_first')
    expect(() => rate.take('ten_first')).toThrow(refused)
  })
})

describe('assertRoom', () => {
  it('refuses at the limit of bytes and of versions, and says both', () => {
    assertRoom({ bytes: 99, versions: 1 }, 100)
    const full = expect.objectContaining({ code: 'insufficient_quota', shouldRetry: false })
    expect(() => assertRoom({ bytes: 100, versions: 1 }, 100)).toThrow(full)
    expect(() => assertRoom({ bytes: 1, versions: TENANT_VERSIONS_MAX }, 100)).toThrow(full)
    expect(() => assertRoom({ bytes: 100, versions: 7 }, 100)).toThrow(/100 bytes in 7 versions/)
  })
})
