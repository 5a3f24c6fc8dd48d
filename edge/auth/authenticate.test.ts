import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Database, type Db, openDatabase } from '#db/client.ts'
import { DatabaseError } from '#db/errors.ts'
import { revokeApiKey } from '#db/queries/api-keys.ts'
import { KEY_TTL_MS } from '../limits.ts'
import { EdgeMetrics } from '../metrics.ts'
import { type StoredKey, storeKey } from '../test/support/stored-key.ts'
import { seal } from '../test/support/wrong-keys.ts'
import { createApiKey, KeyHasher, parseApiKey } from './api-key.ts'
import { Authenticator, requireOperator, requireScope } from './authenticate.ts'
import { SESSION_TTL_S, Sessions } from './session.ts'

const hasher = new KeyHasher('pepper')
/** What a Worker would be asked to wait for. */
const keepAlive = () => {}
const STATE = { hostsReady: 0, isDatabaseUp: true, clockOffsetMs: null }
let database: Database
let nowMs = 0
beforeAll(async () => {
  database = await openDatabase('pglite:memory')
  await database.migrate()
  return () => database.close()
})
beforeEach(() => {
  nowMs = 0
})

/** Fails any look-up. */
const untouchable = new Proxy({} as Db, {
  get() {
    throw new Error('the database was asked')
  },
})

const addKey = (scopes?: string[]): Promise<StoredKey> => storeKey(database.db, hasher, scopes)

async function createAuthenticator(db: Db = database.db): Promise<{
  authenticator: Authenticator
  sessions: Sessions
  metrics: EdgeMetrics
  operatorKey: string
}> {
  const metrics = new EdgeMetrics()
  const operatorKey = await createApiKey()
  const downForMs = () => null
  const sessions = new Sessions({ hasher, nowMs: () => nowMs })
  const of = { db, hasher, operatorKey, sessions, metrics }
  const options = { ...of, nowMs: () => nowMs, downForMs }
  return { authenticator: new Authenticator(options), sessions, metrics, operatorKey }
}

const bearer = (key: string) => `Bearer ${key}`

describe('Authenticator', () => {
  it('knows a key, its tenant and its scopes', async () => {
    const { authenticator } = await createAuthenticator()
    const { key, id, tenantId } = await addKey(['deploy'])
    expect(await authenticator.authenticate(bearer(key), keepAlive)).toEqual({
      kind: 'tenant',
      keyId: id,
      tenantId,
      tenantName: expect.any(String),
      tenantWeight: 1,
      scopes: ['deploy'],
      limits: [],
    })
  })

  it('never asks the database about a key whose check is wrong', async () => {
    const { authenticator } = await createAuthenticator(untouchable)
    const key = await createApiKey()
    const wrong = key.slice(0, -1) + (key.endsWith('a') ? 'b' : 'a')
    for (const text of [wrong, 'nz_', 'sk-123', `${key}${key}`]) {
      await expect(authenticator.authenticate(bearer(text), keepAlive)).rejects.toMatchObject({
        code: 'invalid_api_key',
        status: 401,
      })
    }
    const asked = authenticator.authenticate(bearer(key), keepAlive)
    await expect(asked).rejects.toThrow('the database was asked')
  })

  it('asks for a key when there is none', async () => {
    const { authenticator } = await createAuthenticator()
    for (const header of [null, '', 'Bearer', 'Basic abc']) {
      const refused = authenticator.authenticate(header, keepAlive)
      await expect(refused).rejects.toMatchObject({ code: 'missing_api_key', status: 401 })
    }
  })

  it('takes a wrong secret for a key that nobody has: the same answer, as many look-ups', async () => {
    const { key } = await addKey()
    for (const forged of [seal(`${key.slice(0, 16)}${'0'.repeat(32)}`), await createApiKey()]) {
      const { authenticator, metrics } = await createAuthenticator()
      await authenticator.authenticate(bearer(key), keepAlive)
      for (let i = 0; i < 3; i++) {
        await expect(authenticator.authenticate(bearer(forged), keepAlive)).rejects.toMatchObject({
          code: 'invalid_api_key',
          cause: { message: 'the key is unknown' },
        })
      }
      expect(metrics.toText(STATE)).toContain('key_lookups_total{from="database"} 2')
      expect(metrics.toText(STATE)).toContain('key_lookups_total{from="cache"} 2')
    }
  })

  it('says no more of either while the database is away', async () => {
    const { key } = await addKey()
    for (const forged of [seal(`${key.slice(0, 16)}${'0'.repeat(32)}`), await createApiKey()]) {
      let isAway = false
      const db = new Proxy(database.db, {
        get(target, name, self) {
          if (isAway) throw new DatabaseError('database_unavailable', 'away')
          return Reflect.get(target, name, self)
        },
      })
      const { authenticator } = await createAuthenticator(db)
      await authenticator.authenticate(bearer(key), keepAlive)
      isAway = true
      await authenticator.authenticate(bearer(key), keepAlive)
      await expect(authenticator.authenticate(bearer(forged), keepAlive)).rejects.toMatchObject({
        code: 'database_unavailable',
      })
    }
  })

  it('believes a row, found or not, for no longer than KEY_TTL_MS', async () => {
    const { authenticator, metrics } = await createAuthenticator()
    const { key, id, tenantId } = await addKey()
    await authenticator.authenticate(bearer(key), keepAlive)
    await revokeApiKey(database.db, { tenantId, id })
    nowMs += KEY_TTL_MS / 2 - 1
    await authenticator.authenticate(bearer(key), keepAlive)
    nowMs += KEY_TTL_MS / 2 + 1
    await expect(authenticator.authenticate(bearer(key), keepAlive)).rejects.toMatchObject({
      code: 'invalid_api_key',
    })
    const lookups = metrics
      .toText(STATE)
      .split('\n')
      .filter((line) => line.includes('key_lookups'))
    expect(lookups).toContain('nozzle_edge_key_lookups_total{from="database"} 2')
    expect(lookups).toContain('nozzle_edge_key_lookups_total{from="cache"} 1')
    // Revocation must be effective everywhere within 10 s.
    expect(KEY_TTL_MS).toBeLessThanOrEqual(5000)
  })

  it('hears of a revocation half-way where the key is in use', async () => {
    const { authenticator } = await createAuthenticator()
    const { key, id, tenantId } = await addKey()
    const beside: Promise<void>[] = []
    const ask = () => authenticator.authenticate(bearer(key), (work) => beside.push(work))
    await ask()
    await revokeApiKey(database.db, { tenantId, id })
    nowMs += KEY_TTL_MS / 2
    expect(await ask()).toMatchObject({ keyId: id })
    await Promise.all(beside)
    await expect(ask()).rejects.toMatchObject({ code: 'invalid_api_key' })
    expect(beside.length).toBe(1)
  })

  it('asks about an unknown key once in KEY_TTL_MS', async () => {
    const { authenticator, metrics } = await createAuthenticator()
    const key = await createApiKey()
    for (let i = 0; i < 5; i++) {
      await expect(authenticator.authenticate(bearer(key), keepAlive)).rejects.toMatchObject({
        status: 401,
      })
    }
    expect(metrics.toText(STATE)).toContain('key_lookups_total{from="database"} 1')
  })

  it('forgets a key at once where it was revoked', async () => {
    const { authenticator } = await createAuthenticator()
    const { key, id, tenantId } = await addKey()
    await authenticator.authenticate(bearer(key), keepAlive)
    await revokeApiKey(database.db, { tenantId, id })
    authenticator.forget(id)
    await expect(authenticator.authenticate(bearer(key), keepAlive)).rejects.toMatchObject({
      status: 401,
    })
  })

  it('knows the operator by the whole key', async () => {
    const { authenticator, operatorKey } = await createAuthenticator()
    const identity = await authenticator.authenticate(bearer(operatorKey), keepAlive)
    expect(identity).toEqual({ kind: 'operator' })
    expect(() => requireOperator(identity)).not.toThrow()
    expect(() => requireScope(identity, 'deploy')).not.toThrow()
  })

  it('tells a missing scope and a missing right apart from a bad key', async () => {
    const { authenticator } = await createAuthenticator()
    const { key } = await addKey(['deploy'])
    const identity = await authenticator.authenticate(bearer(key), keepAlive)
    expect(() => requireScope(identity, 'generate')).toThrow('lacks the scope "generate"')
    expect(() => requireOperator(identity)).toThrow('operator')
  })
})

describe('a session', () => {
  const HOUR_MS = 3_600_000
  const session = (token: string) => `Session ${token}`

  it('is let in as its key is, and ends when that is revoked', async () => {
    const { authenticator, sessions } = await createAuthenticator()
    const { key, id, tenantId } = await addKey(['deploy'])
    const identity = await authenticator.authenticate(bearer(key), keepAlive)
    const token = await sessions.begin(id)
    expect(await authenticator.authenticate(session(token), keepAlive)).toEqual(identity)
    await revokeApiKey(database.db, { tenantId, id })
    nowMs += KEY_TTL_MS
    await expect(authenticator.authenticate(session(token), keepAlive)).rejects.toMatchObject({
      code: 'invalid_api_key',
    })
  })

  it('of the operator key is the operator', async () => {
    const { authenticator, sessions, operatorKey } = await createAuthenticator()
    const token = await sessions.begin(parseApiKey(operatorKey)?.id ?? '')
    expect(await authenticator.authenticate(session(token), keepAlive)).toEqual({
      kind: 'operator',
    })
  })

  it('is over an hour after it was last renewed, and 12 hours after the sign-in', async () => {
    const { sessions } = await createAuthenticator()
    let token = await sessions.begin('key_a')
    nowMs += SESSION_TTL_S * 1000
    expect(await sessions.verify(token)).toBeNull()
    const startMs = nowMs
    token = await sessions.begin('key_a')
    for (;;) {
      const found = await sessions.verify(token)
      if (found === null) break
      token = (await sessions.renew(found)) ?? token
      nowMs += HOUR_MS / 4
    }
    expect(nowMs - startMs).toBe(12 * HOUR_MS)
  })

  it('is none where another pool signed it, a key stands in its place, or a byte is changed', async () => {
    const { authenticator, sessions } = await createAuthenticator()
    const { key, id } = await addKey()
    const elsewhere = new Sessions({ hasher: new KeyHasher('another'), nowMs: () => nowMs })
    const [head, , signature] = (await sessions.begin(id)).split('.')
    const [, body] = (await sessions.begin('key_other')).split('.')
    for (const token of [await elsewhere.begin(id), key, `${head}.${body}.${signature}`]) {
      await expect(authenticator.authenticate(session(token), keepAlive)).rejects.toMatchObject({
        status: 401,
      })
    }
    await expect(
      authenticator.authenticate(bearer(await sessions.begin(id)), keepAlive),
    ).rejects.toMatchObject({ status: 401 })
  })
})
