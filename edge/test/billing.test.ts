import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { upsertBaseModel } from '#db/queries/base-models.ts'
import type { TestTenant } from './support/pool-client.ts'
import { TestPool } from './support/test-pool.ts'

const BASE = 'priced-base'
let pool: TestPool
let tenant: TestTenant
beforeAll(async () => {
  pool = await TestPool.start()
  tenant = await pool.addTenant()
  await upsertBaseModel(pool.database.db, { name: BASE, digest: `sha256:${'b'.repeat(64)}` })
})
afterAll(() => pool.stop())

async function refusal(response: Response): Promise<{ status: number; param: string | null }> {
  const { error } = (await response.json()) as { error: { param: string | null } }
  return { status: response.status, param: error.param }
}

describe('prices', () => {
  const price = { prompt_pusd: '7', cached_prompt_pusd: '3', completion_pusd: '11' }

  it('are versions that the operator adds to, newest first', async () => {
    const added = await pool.admin('POST', '/v1/prices', { base_model: BASE, ...price })
    expect(added).toEqual({
      id: expect.stringMatching(/^prc_/),
      base_model: BASE,
      version: 2,
      ...price,
      created_at: expect.stringMatching(/Z$/),
    })
    const { data } = await pool.admin<{ data: object[] }>('GET', `/v1/prices?base_model=${BASE}`)
    expect(data).toMatchObject([added, { version: 1, prompt_pusd: '100000' }])
  })

  it.each([
    [{ base_model: 'nobody' }, 404, 'base_model'],
    [{ prompt_pusd: '-1' }, 400, 'prompt_pusd'],
    [{ prompt_pusd: 7 }, 400, 'prompt_pusd'],
    [{ completion_pusd: '9223372036854775808' }, 400, 'completion_pusd'],
  ])('are refused when wrong: %j', async (change, status, param) => {
    const wish = { base_model: BASE, ...price, ...change }
    const response = await pool.call('POST', '/v1/prices', pool.operatorKey, wish)
    expect(await refusal(response)).toEqual({ status, param })
  })

  it('are closed to tenants', async () => {
    for (const method of ['GET', 'POST']) {
      const body = method === 'POST' ? { base_model: BASE, ...price } : undefined
      expect((await pool.call(method, '/v1/prices', tenant.key, body)).status).toBe(403)
    }
  })
})
