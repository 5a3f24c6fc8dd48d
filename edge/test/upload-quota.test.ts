/** What a tenant's own keys may upload; the operator's uploads for it are not counted. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { TestTenant } from './support/pool-client.ts'
import { TestPool } from './support/test-pool.ts'

const CALLS = 3
const BYTES = 10

let pool: TestPool
beforeAll(async () => {
  pool = await TestPool.start({
    environment: {
      NOZZLE_TENANT_UPLOADS_PER_MINUTE: String(CALLS),
      NOZZLE_TENANT_ADAPTER_BYTES_MAX: String(BYTES),
    },
  })
  await pool.addHost()
})
afterAll(() => pool.stop())

const upload = async (tenant: TestTenant, weights: string, key = tenant.key) => {
  const response = await pool.upload(tenant, 'support', weights, { key })
  const { status } = response
  return { status, headers: response.headers, body: (await response.json()) as object }
}

describe('the uploads of a tenant', () => {
  it('are so many a minute, refused ones too, and no other tenant is held up', async () => {
    const [tenant, other] = [await pool.addTenant(), await pool.addTenant()]
    for (let call = 0; call < CALLS; call++) {
      const refused = await pool.upload(tenant, 'support', 'w', {
        key: tenant.key,
        config: { use_dora: true },
      })
      expect(refused.status).toBe(422)
      await refused.body?.cancel()
    }
    const { status, headers, body } = await upload(tenant, 'w')
    expect(status).toBe(429)
    expect(body).toMatchObject({ error: { code: 'rate_limit_exceeded' } })
    expect(Number(headers.get('retry-after'))).toBeGreaterThan(0)
    expect((await upload(other, 'w')).status).toBe(201)
    expect((await upload(tenant, 'w', pool.operatorKey)).status).toBe(201)
  })

  it('end where its adapters take what they may, those of removed models too', async () => {
    const tenant = await pool.addTenant()
    expect((await upload(tenant, 'w'.repeat(BYTES))).status).toBe(201)
    await pool.admin('DELETE', `/v1/tenants/${tenant.name}/models/support`)
    const { status, headers, body } = await upload(tenant, 'another')
    expect(status).toBe(429)
    expect(headers.get('x-should-retry')).toBe('false')
    expect(body).toMatchObject({ error: { code: 'insufficient_quota' } })
    expect((await upload(tenant, 'another', pool.operatorKey)).status).toBe(201)
  })
})
