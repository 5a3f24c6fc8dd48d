import { createHmac } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { webDigests } from '../digests.ts'
import { nodeDigests } from '../node-digests.ts'
import { createApiKey, isSameHash, KeyHasher, parseApiKey } from './api-key.ts'

describe('API key', () => {
  it('has the documented form, and a check that is the CRC-32 of the rest in base62', async () => {
    const key = await createApiKey()
    expect(key).toMatch(/^nz_[0-9A-Za-z]{12}_[0-9A-Za-z]{38}$/)
    const digits = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
    const check = [...key.slice(-6)].reduce((sum, sign) => sum * 62 + digits.indexOf(sign), 0)
    expect(check).toBe(crc32(key.slice(0, -6)))
    expect(parseApiKey(key)).toEqual({ id: `key_${key.slice(3, 15)}`, start: key.slice(0, 15) })
  })

  it('is never the same twice', async () => {
    const keys = await Promise.all(Array.from({ length: 200 }, () => createApiKey()))
    expect(new Set(keys.map((key) => key.slice(3, 15))).size).toBe(200)
  })

  it('refuses a key with any one character changed, cut or added', async () => {
    const key = await createApiKey()
    for (let i = 0; i < key.length; i++) {
      const other = key[i] === 'x' ? 'y' : 'x'
      expect(parseApiKey(key.slice(0, i) + other + key.slice(i + 1))).toBeNull()
    }
    expect(parseApiKey(key.slice(0, -1))).toBeNull()
    expect(parseApiKey(`${key}a`)).toBeNull()
    expect(parseApiKey(` ${key}`)).toBeNull()
  })

  it('is stored as HMAC-SHA256 of the whole key under the pepper', async () => {
    const key = await createApiKey()
    const expected = createHmac('sha256', 'pépper').update(key).digest('hex')
    for (const digests of [webDigests, nodeDigests]) {
      const hasher = new KeyHasher('pépper', digests)
      expect(await hasher.hash(key)).toBe(expected)
      expect(await hasher.hash(key)).toBe(expected)
    }
    expect(isSameHash(expected, expected)).toBe(true)
    expect(
      isSameHash(expected, `${expected.slice(0, -1)}${expected.endsWith('0') ? '1' : '0'}`),
    ).toBe(false)
    expect(isSameHash(expected, expected.slice(1))).toBe(false)
  })
})
