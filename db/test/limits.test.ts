import { and, eq, sql } from 'drizzle-orm'
import { describe, expect, it } from 'vitest'
import { createId } from '../ids.ts'
import { findApiKey, insertApiKey } from '../queries/api-keys.ts'
import { findCharges } from '../queries/charges.ts'
import {
  claimIdempotencyKey,
  deleteOldIdempotencyKeys,
  endIdempotencyClaim,
  releaseIdempotencyClaim,
  renewIdempotencyClaim,
} from '../queries/idempotency-keys.ts'
import { type LimitValues, listLimits, removeLimits, setLimits } from '../queries/limits.ts'
import {
  closeSpendLeases,
  findSpendLeases,
  type PortionAsk,
  takePortions,
} from '../queries/portions.ts'
import { currentPrice } from '../queries/prices.ts'
import { recordUsageEvents } from '../queries/usage.ts'
import { rollUpUsage } from '../queries/usage-rollups.ts'
import { limitPortions } from '../schema/limit-portions.ts'
import { spendLeases } from '../schema/spend-leases.ts'
import { describeOnEachDatabase } from './support/database.ts'
import { addBaseModel, addTenant, createEvent } from './support/records.ts'

const NONE: LimitValues = {
  requestsPerMinute: null,
  tokensPerMinute: null,
  concurrency: null,
  monthlySpendPusd: null,
}
const MONTH = new Date().toISOString().slice(0, 7)

describeOnEachDatabase((db) => {
  const addScope = async (values: Partial<LimitValues>): Promise<string> => {
    const { id } = await addTenant(db())
    await setLimits(db(), { tenantId: id, keyId: null }, { ...NONE, ...values })
    return id
  }
  const addKey = async (tenantId: string): Promise<string> => {
    const id = createId('key')
    const key = { id, tenantId, keyHash: 'x', start: 'nz_', name: null, scopes: [] }
    return (await insertApiKey(db(), key)).id
  }
  const take = async (edge: string, ask: PortionAsk) => {
    const [grant] = await takePortions(db(), edge, [ask])
    if (grant === undefined) throw new Error('no answer')
    return grant
  }
  const requests = (scopeId: string, want: bigint, refunds: [number, bigint][] = []) =>
    ({
      scopeId,
      kind: 'requests',
      min: want,
      want,
      refunds: refunds.map(([slice, units]) => ({ slice, units })),
    }) as const
  const spend = (
    scopeId: string,
    min: bigint,
    want = min,
    reports: [string, bigint, boolean][] = [],
  ) =>
    ({
      scopeId,
      kind: 'spend',
      month: MONTH,
      leaseId: createId('lea'),
      min,
      want,
      reports: reports.map(([id, amountPusd, isReturned]) => ({ id, amountPusd, isReturned })),
    }) as const

  describe('portions of a rate', () => {
    it('add up to the limit, whoever asks and however many at once', async () => {
      const scopeId = await addScope({ requestsPerMinute: 20 })
      const edges = Array.from({ length: 40 }, (_, i) => `edg_${i % 4}`)
      const grants = await Promise.all(edges.map((edge) => take(edge, requests(scopeId, 1n))))
      expect(grants.reduce((sum, { granted }) => sum + granted, 0n)).toBe(20n)
      const refused = grants.find(({ granted }) => granted === 0n)
      expect(refused?.retryMs).toBeGreaterThan(55_000)
      expect(refused?.retryMs).toBeLessThanOrEqual(70_000)
    })

    it('are good for a slice of 5 seconds, and given back once', async () => {
      const scopeId = await addScope({ requestsPerMinute: 5 })
      const first = await take('edg_a', requests(scopeId, 5n))
      expect(first).toMatchObject({ granted: 5n, free: 0n, limit: 5n })
      expect(first.validMs).toBeGreaterThan(0)
      expect(first.validMs).toBeLessThanOrEqual(5000)
      expect((await take('edg_b', requests(scopeId, 1n))).granted).toBe(0n)
      // Not another edge's, and not more than was taken.
      expect((await take('edg_b', requests(scopeId, 1n, [[first.slice, 3n]]))).granted).toBe(0n)
      const back = await take('edg_a', requests(scopeId, 2n, [[first.slice, 2n]]))
      expect(back).toMatchObject({ granted: 2n, free: 0n })
    })

    it('count no more a minute after their slice', async () => {
      const scopeId = await addScope({ requestsPerMinute: 2 })
      await take('edg_a', requests(scopeId, 2n))
      const isOwn = eq(limitPortions.scopeId, scopeId)
      await db().update(limitPortions).set({ expiresAt: sql`now()` }).where(isOwn)
      expect((await take('edg_b', requests(scopeId, 2n))).granted).toBe(2n)
    })

    it('are refused for good when the limit is too small, and free when there is none', async () => {
      const scopeId = await addScope({ requestsPerMinute: 2 })
      expect(await take('edg_a', requests(scopeId, 3n))).toMatchObject({
        granted: 0n,
        retryMs: null,
      })
      await removeLimits(db(), { tenantId: scopeId, keyId: null })
      expect(await take('edg_a', requests(scopeId, 3n))).toMatchObject({ granted: 3n, limit: null })
    })
  })

  describe('requests at once', () => {
    it('are what each edge says that it holds, until it is not heard of for a minute', async () => {
      const scopeId = await addScope({ concurrency: 4 })
      const ask = (want: bigint, held: bigint) =>
        ({ scopeId, kind: 'concurrency', min: want, want, held }) as const
      expect((await take('edg_a', ask(3n, 0n))).granted).toBe(3n)
      expect((await take('edg_b', ask(2n, 0n))).granted).toBe(0n)
      expect(await take('edg_a', ask(0n, 1n))).toMatchObject({ granted: 0n, free: 3n })
      expect((await take('edg_b', ask(2n, 0n))).granted).toBe(2n)
      const isFirst = and(eq(limitPortions.scopeId, scopeId), eq(limitPortions.edgeId, 'edg_a'))
      await db().update(limitPortions).set({ expiresAt: sql`now()` }).where(isFirst)
      expect((await take('edg_b', ask(2n, 2n))).granted).toBe(2n)
      // Back from an outage, it holds what it says, and gets no more.
      expect(await take('edg_a', ask(1n, 1n))).toMatchObject({ granted: 0n, free: -1n })
    })
  })

  describe('spend leases', () => {
    it('never pass the budget, and leave most of it to others', async () => {
      const scopeId = await addScope({ monthlySpendPusd: 1000n })
      const first = await take('edg_a', spend(scopeId, 10n, 900n))
      expect(first).toMatchObject({ granted: 125n, free: 875n, limit: 1000n })
      const grants = await Promise.all(
        Array.from({ length: 60 }, (_, i) => take(`edg_${i % 4}`, spend(scopeId, 100n))),
      )
      expect(grants.reduce((sum, { granted }) => sum + granted, 0n)).toBe(800n)
      const refused = grants.find(({ granted }) => granted === 0n)
      // Others may give back what they hold: no reason to give up.
      expect(refused).toMatchObject({ isExhausted: false })
    })

    it('follow a charge through the ledger: at no moment is the money free or counted twice', async () => {
      const base_model = await addBaseModel(db())
      const price = await currentPrice(db(), base_model)
      const cost = (price?.promptPusd ?? 0n) * 10n
      const scopeId = await addScope({ monthlySpendPusd: cost * 3n })
      const ask = spend(scopeId, cost * 2n)
      expect((await take('edg_a', ask)).free).toBe(cost)
      const event = (request_id = createId('req')) =>
        createEvent(scopeId, {
          base_model,
          request_id,
          lease_ids: [ask.leaseId, 'lea_unknown'],
          prompt_tokens: 10,
          cached_prompt_tokens: 0,
          completion_tokens: 0,
        })
      const free = async (reports: [string, bigint, boolean][] = []) =>
        (await take('edg_b', spend(scopeId, 0n, 0n, reports))).free
      const first = event()
      await recordUsageEvents(db(), [first, first])
      expect(await free()).toBe(cost)
      await rollUpUsage(db())
      expect(await free()).toBe(cost)
      // The edge learns that its second request cost nothing, and returns the lease.
      expect(await free([[ask.leaseId, cost, true]])).toBe(cost * 2n)
      expect(await closeSpendLeases(db())).toBeGreaterThan(0)
      expect(await free()).toBe(cost * 2n)
      // A later attempt takes the place of the first one's charge.
      await recordUsageEvents(db(), [{ ...first, attempt: 2, prompt_tokens: 20 }])
      expect(await free()).toBe(cost)
      expect(await findCharges(db(), [first.request_id, createId('req')])).toEqual([
        { requestId: first.request_id, attempt: 2, amountPusd: cost * 2n },
      ])
      const [lease] = await findSpendLeases(db(), [ask.leaseId])
      expect(lease).toMatchObject({ postedPusd: cost * 2n, amountPusd: cost, isReturned: true })
    })

    it('tell a budget that is used up from one that others hold', async () => {
      const scopeId = await addScope({ monthlySpendPusd: 100n })
      const ask = spend(scopeId, 100n)
      await take('edg_a', ask)
      expect(await take('edg_b', spend(scopeId, 50n))).toMatchObject({ isExhausted: false })
      await take('edg_a', spend(scopeId, 0n, 0n, [[ask.leaseId, 60n, true]]))
      expect(await take('edg_b', spend(scopeId, 50n))).toMatchObject({
        granted: 0n,
        isExhausted: true,
        spent: 60n,
      })
      expect((await take('edg_b', spend(scopeId, 40n))).granted).toBe(40n)
    })

    it('of an edge that died hold nothing once they expired, and are closed', async () => {
      const scopeId = await addScope({ monthlySpendPusd: 100n })
      const ask = spend(scopeId, 100n)
      await take('edg_a', ask)
      const expire = sql`now() - interval '1 second'`
      await db()
        .update(spendLeases)
        .set({ expiresAt: expire })
        .where(eq(spendLeases.id, ask.leaseId))
      expect((await take('edg_b', spend(scopeId, 100n))).granted).toBe(100n)
      await closeSpendLeases(db())
      expect((await findSpendLeases(db(), [ask.leaseId]))[0]?.closedAt).toBeInstanceOf(Date)
    })

    it('of a key count the charges of that key alone, those of the tenant all', async () => {
      const base_model = await addBaseModel(db())
      const tenant = await addTenant(db())
      const keyId = await addKey(tenant.id)
      const cap = { ...NONE, monthlySpendPusd: 10n ** 12n }
      await setLimits(db(), { tenantId: tenant.id, keyId }, cap)
      await setLimits(db(), { tenantId: tenant.id, keyId: null }, cap)
      const other = createEvent(tenant.id, { base_model, request_id: createId('req') })
      const own = { ...other, request_id: createId('req'), key_id: keyId, completion_tokens: 1000 }
      await recordUsageEvents(db(), [other])
      await rollUpUsage(db())
      await recordUsageEvents(db(), [own])
      const grants = await takePortions(db(), 'edg_a', [spend(tenant.id, 0n), spend(keyId, 0n)])
      const freeOf = (scopeId: string) =>
        grants.find((grant) => grant.scopeId === scopeId)?.free ?? 0n
      const prices = await currentPrice(db(), base_model)
      const perCompletion = prices?.completionPusd ?? 0n
      expect(freeOf(keyId) - freeOf(tenant.id)).toBe(
        60n * 100_000n + 40n * 50_000n + 25n * perCompletion,
      )
    })
  })

  describe('limits', () => {
    it('are changed one by one, listed with the tenant first, and nobody else’s', async () => {
      const tenant = await addTenant(db())
      const other = await addTenant(db())
      const keyId = await addKey(tenant.id)
      const own = { tenantId: tenant.id, keyId: null }
      await setLimits(db(), { tenantId: tenant.id, keyId }, { ...NONE, concurrency: 2 })
      await setLimits(db(), own, { ...NONE, requestsPerMinute: 7 })
      await setLimits(db(), own, { requestsPerMinute: null, monthlySpendPusd: 10n ** 20n })
      expect(await listLimits(db(), tenant.id)).toMatchObject([
        { scopeId: tenant.id, requestsPerMinute: null, monthlySpendPusd: 10n ** 20n },
        { scopeId: keyId, concurrency: 2 },
      ])
      expect(await setLimits(db(), { tenantId: other.id, keyId }, NONE)).toBeNull()
      expect(await removeLimits(db(), { tenantId: other.id, keyId })).toBe(false)
      expect((await findApiKey(db(), keyId))?.limits).toMatchObject([
        { scopeId: tenant.id, monthlySpendPusd: 10n ** 20n },
        { scopeId: keyId, concurrency: 2, tokensPerMinute: null },
      ])
      expect(await removeLimits(db(), own)).toBe(true)
      expect((await findApiKey(db(), keyId))?.limits).toMatchObject([{ scopeId: keyId }])
    })
  })

  describe('an idempotency key', () => {
    const request = (change = {}) => ({ bodyHash: 'b1', requestId: createId('req'), ...change })
    const newScope = () => ({
      tenantId: createId('ten'),
      keyId: createId('key'),
      idempotencyKey: 'order-7',
    })
    const claimed = async (...parameters: Parameters<typeof claimIdempotencyKey>) => {
      const outcome = await claimIdempotencyKey(...parameters)
      if (outcome.type !== 'claimed') throw new Error(outcome.type)
      return outcome.claim
    }
    const age = (column: string, scope: { tenantId: string }) =>
      db().execute(sql`update idempotency_keys set ${sql.identifier(column)} = now()
        where tenant_id = ${scope.tenantId}`)

    it('is claimed by one of many at the same moment, for each API key apart', async () => {
      const scope = newScope()
      const outcomes = await Promise.all(
        Array.from({ length: 30 }, () => claimIdempotencyKey(db(), scope, request())),
      )
      expect(outcomes.filter(({ type }) => type === 'claimed')).toHaveLength(1)
      expect(outcomes.filter(({ type }) => type === 'running')).toHaveLength(29)
      const others = [{ keyId: null }, { keyId: createId('key') }, { tenantId: createId('ten') }]
      for (const other of others) {
        const outcome = await claimIdempotencyKey(db(), { ...scope, ...other }, request())
        expect(outcome.type).toBe('claimed')
      }
    })

    it('keeps the reply for a day, and refuses another body', async () => {
      const scope = newScope()
      const claim = await claimed(db(), scope, request())
      const reply = { body: 'data: {}\n\n', contentType: 'text/event-stream' }
      await endIdempotencyClaim(db(), claim, { state: 'done', reply })
      const { requestId } = claim
      expect(await claimIdempotencyKey(db(), scope, request())).toEqual({
        type: 'done',
        requestId,
        reply,
      })
      const other = request({ bodyHash: 'b2' })
      expect(await claimIdempotencyKey(db(), scope, other)).toEqual({ type: 'reused' })
      await age('expires_at', scope)
      expect(await claimed(db(), scope, other)).toEqual({
        ...scope,
        tries: 1,
        requestId: other.requestId,
      })
      await age('expires_at', scope)
      expect(await deleteOldIdempotencyKeys(db())).toBeGreaterThan(0)
    })

    it('passes to the next try under the same request id, and the earlier one has no say', async () => {
      const scope = newScope()
      const first = await claimed(db(), scope, request())
      expect(await renewIdempotencyClaim(db(), first)).toBe(true)
      await age('locked_until', scope)
      const second = await claimed(db(), scope, request())
      expect(second).toEqual({ ...first, tries: 2 })
      expect(await renewIdempotencyClaim(db(), first)).toBe(false)
      await endIdempotencyClaim(db(), first, { state: 'done', reply: null })
      await releaseIdempotencyClaim(db(), first)
      expect((await claimIdempotencyKey(db(), scope, request())).type).toBe('running')
      // The first try may be billed: the key stays with its request until one is.
      await releaseIdempotencyClaim(db(), second)
      expect(await claimed(db(), scope, request())).toEqual({ ...first, tries: 3 })
    })

    it('is free after a try that is not billed, and stands after one that was cut', async () => {
      const scope = newScope()
      await releaseIdempotencyClaim(db(), await claimed(db(), scope, request()))
      const other = request({ bodyHash: 'b2' })
      const claim = await claimed(db(), scope, other)
      expect(claim).toMatchObject({ tries: 1, requestId: other.requestId })
      await endIdempotencyClaim(db(), claim, { state: 'cut', reply: null })
      expect(await claimIdempotencyKey(db(), scope, other)).toEqual({
        type: 'cut',
        requestId: other.requestId,
      })
    })
  })
})
