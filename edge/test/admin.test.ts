import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { listAuditEntries } from '#db/queries/audit-log.ts'
import type { TestTenant } from './support/pool-client.ts'
import { promptTokens, TestPool, until } from './support/test-pool.ts'

let pool: TestPool
let tenant: TestTenant
let other: TestTenant
beforeAll(async () => {
  pool = await TestPool.start()
  await pool.addHost()
  tenant = await pool.addTenant()
  other = await pool.addTenant()
})
afterAll(() => pool.stop())

async function refusal(response: Response): Promise<{ status: number; code: string }> {
  const { error } = (await response.json()) as { error: { code: string } }
  return { status: response.status, code: error.code }
}

const chat = { messages: [{ role: 'user', content: 'hello' }], max_tokens: 5 }

describe('tenants', () => {
  it('are created and listed by the operator', async () => {
    const { data } = await pool.admin<{ data: object[] }>('GET', '/v1/tenants')
    expect(data).toContainEqual({
      id: tenant.id,
      name: tenant.name,
      weight: 1,
      created_at: expect.stringMatching(/^\d{4}-.*Z$/),
    })
  })

  it('have names that are free, well formed and no path of ours', async () => {
    for (const [name, status, code] of [
      [tenant.name, 422, 'name_taken'],
      ['v1', 400, 'invalid_request'],
      ['internal', 400, 'invalid_request'],
      ['No Spaces', 400, 'invalid_request'],
    ] as const) {
      const response = await pool.call('POST', '/v1/tenants', pool.operatorKey, { name })
      expect(await refusal(response)).toEqual({ status, code })
    }
  })

  it('are not looked for, nor named, by what no database stores', async () => {
    const { operatorKey } = pool
    for (const response of [
      await pool.call('GET', '/v1/tenants/a%00b', operatorKey),
      await pool.call('GET', `/v1/tenants/${tenant.name}/usage?model=%00`, operatorKey),
      await pool.call('POST', `/v1/tenants/${tenant.name}/keys`, operatorKey, { name: 'a\0b' }),
    ]) {
      expect(await refusal(response)).toEqual({ status: 400, code: 'invalid_request' })
    }
  })

  it('get the weight that the operator sets, and nobody else', async () => {
    const path = `/v1/tenants/${other.name}`
    expect(await pool.admin('PATCH', path, { weight: 5 })).toMatchObject({ weight: 5 })
    expect(await pool.admin('GET', path)).toMatchObject({ id: other.id, weight: 5 })
    for (const weight of [0, 1001, 1.5, '3', null]) {
      const response = await pool.call('PATCH', path, pool.operatorKey, { weight })
      expect(await refusal(response)).toEqual({ status: 400, code: 'invalid_request' })
    }
    const own = await pool.call('PATCH', path, other.key, { weight: 9 })
    expect(await refusal(own)).toEqual({ status: 403, code: 'permission_denied' })
    const nobody = await pool.call('PATCH', '/v1/tenants/nobody', pool.operatorKey, { weight: 9 })
    expect(await refusal(nobody)).toEqual({ status: 404, code: 'not_found' })
    expect(await pool.admin('GET', path)).toMatchObject({ weight: 5 })
  })

  it('are closed to everybody else', async () => {
    for (const [method, path] of [
      ['GET', '/v1/tenants'],
      ['POST', '/v1/tenants'],
      ['GET', '/v1/hosts'],
    ] as const) {
      const response = await pool.call(method, path, tenant.key, method === 'POST' ? {} : undefined)
      expect(await refusal(response)).toEqual({ status: 403, code: 'permission_denied' })
    }
  })

  it('cannot be told from one that does not exist, by another tenant', async () => {
    for (const name of [other.name, other.id, 'nobody']) {
      for (const path of ['keys', 'models', 'usage', 'usage/events', 'models/x']) {
        const response = await pool.call('GET', `/v1/tenants/${name}/${path}`, tenant.key)
        expect(await refusal(response)).toEqual({ status: 404, code: 'not_found' })
      }
      const upload = await pool.upload({ name }, 'x', 'w', { key: tenant.key })
      expect(await refusal(upload)).toEqual({ status: 404, code: 'not_found' })
    }
  })
})

describe('API keys', () => {
  it('show their secret once', async () => {
    const made = await pool.admin<{ id: string; key: string }>(
      'POST',
      `/v1/tenants/${tenant.name}/keys`,
      { name: 'ci', scopes: ['generate'] },
    )
    expect(made).toEqual({
      id: expect.stringMatching(/^key_/),
      key: expect.stringMatching(/^nz_/),
      name: 'ci',
      scopes: ['generate'],
      created_at: expect.any(String),
    })
    const response = await pool.call('GET', `/v1/tenants/${tenant.id}/keys`, pool.operatorKey)
    const text = await response.text()
    expect(text).toContain(made.id)
    expect(text).not.toContain(made.key)
    expect(text).not.toContain(made.key.slice(16, 48))
  })

  it('stop working here as soon as they are revoked', async () => {
    const extra = await pool.admin<{ id: string; key: string }>(
      'POST',
      `/v1/tenants/${tenant.name}/keys`,
    )
    expect((await pool.call('GET', '/v1/models', extra.key)).status).toBe(200)
    const path = `/v1/tenants/${tenant.name}/keys/${extra.id}`
    const revoked = await pool.admin<{ revoked_at: string }>('DELETE', path)
    expect(revoked).toEqual({ id: extra.id, revoked_at: expect.stringMatching(/Z$/) })
    expect(await refusal(await pool.call('GET', '/v1/models', extra.key))).toEqual({
      status: 401,
      code: 'invalid_api_key',
    })
    expect(await pool.admin('DELETE', path)).toEqual(revoked)
  })

  it('of another tenant cannot be revoked', async () => {
    const path = `/v1/tenants/${tenant.name}/keys/${other.keyId}`
    const response = await pool.call('DELETE', path, tenant.key)
    expect(await refusal(response)).toEqual({ status: 404, code: 'not_found' })
    expect((await pool.call('GET', '/v1/models', other.key)).status).toBe(200)
  })

  it('do only what their scopes allow, and give no more than they have', async () => {
    const base = `/v1/tenants/${tenant.name}`
    const make = (scopes: string[]) =>
      pool.admin<{ key: string }>('POST', `${base}/keys`, { scopes })
    const generate = await make(['generate'])
    const deploy = await make(['deploy'])
    expect((await pool.call('GET', `${base}/models`, generate.key)).status).toBe(403)
    expect((await pool.call('GET', `${base}/models`, deploy.key)).status).toBe(200)
    const asked = await pool.call('POST', '/v1/chat/completions', deploy.key, chat)
    expect(await refusal(asked)).toEqual({ status: 403, code: 'permission_denied' })
    const more = await pool.call('POST', `${base}/keys`, deploy.key, { scopes: ['generate'] })
    expect(await refusal(more)).toEqual({ status: 403, code: 'permission_denied' })
  })
})

describe('models', () => {
  it('are deployed by an upload, at once, and numbered', async () => {
    const first = await pool.upload(tenant, 'triage', 'first weights', { key: tenant.key })
    expect(first.status).toBe(201)
    const endpoint = `${pool.url}/${tenant.name}/triage/v1`
    expect(await first.json()).toEqual({
      model: 'triage',
      version: 1,
      digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
      base_model: 'fake-base',
      rank: 8,
      alpha: 16,
      use_rslora: false,
      target_modules: ['attn_q', 'attn_v'],
      tensors: 4,
      pack_bytes: 'first weights'.length,
      endpoint,
      canary: null,
      unchanged: false,
      ended_canary: null,
    })
    expect(
      (await pool.call('POST', `/${tenant.name}/triage/v1/chat/completions`, tenant.key, chat))
        .status,
    ).toBe(200)
    const second = await pool.upload(tenant, 'triage', 'second weights')
    expect(await second.json()).toMatchObject({ version: 2 })
    const shown = await pool.admin<{ history: object[] }>(
      'GET',
      `/v1/tenants/${tenant.name}/models/triage`,
    )
    expect(shown).toMatchObject({
      name: 'triage',
      version: 2,
      versions: 2,
      endpoint,
      base_model: 'fake-base',
    })
    expect(shown.history).toMatchObject([{ version: 2 }, { version: 1 }])
    const list = await pool.call('GET', `/v1/tenants/${tenant.name}/models`, tenant.key)
    expect(await list.json()).toMatchObject({ data: [{ name: 'triage', version: 2 }] })
  })

  it("carry the host's reason when it refuses an adapter", async () => {
    const response = await pool.upload(tenant, 'dora', 'w', { config: { use_dora: true } })
    expect(response.status).toBe(422)
    expect(await response.json()).toEqual({
      error: {
        message: 'adapter_config.json: use_dora is not supported',
        type: 'invalid_request_error',
        param: 'use_dora',
        code: 'adapter_invalid',
      },
    })
    expect(
      (await pool.call('GET', `/v1/tenants/${tenant.name}/models/dora`, tenant.key)).status,
    ).toBe(404)
  })

  it('refuse what is no upload, and a bad name', async () => {
    const path = `/v1/tenants/${tenant.name}/models/triage/versions`
    const noForm = await pool.call('POST', path, tenant.key, {})
    expect(await refusal(noForm)).toEqual({ status: 400, code: 'invalid_request' })
    const badName = await pool.upload(tenant, 'bad@name', 'w')
    expect(await refusal(badName)).toEqual({ status: 400, code: 'invalid_request' })
    const baseName = await pool.upload(tenant, 'fake-base', 'w')
    expect(await refusal(baseName)).toEqual({ status: 400, code: 'invalid_request' })
  })

  it('are gone when removed, and their name is free', async () => {
    await pool.deploy(tenant, 'brief', 'weights')
    const path = `/v1/tenants/${tenant.name}/models/brief`
    const call = () =>
      pool.call('POST', `/${tenant.name}/brief/v1/chat/completions`, tenant.key, chat)
    expect((await call()).status).toBe(200)
    expect(await pool.admin('DELETE', path)).toEqual({ name: 'brief', deleted: true })
    expect(await refusal(await call())).toEqual({ status: 404, code: 'model_not_found' })
    expect((await pool.call('DELETE', path, tenant.key)).status).toBe(404)
    const again = await pool.upload(tenant, 'brief', 'other weights')
    expect(await again.json()).toMatchObject({ version: 1 })
  })
})

describe('the operator key', () => {
  it("may ask any model, at its tenant's cost, but not the base model", async () => {
    await pool.deploy(other, 'shared', 'weights of the other')
    const path = `/${other.name}/shared/v1/chat/completions`
    const response = await pool.call('POST', path, pool.operatorKey, chat)
    expect(response.status).toBe(200)
    const requestId = response.headers.get('x-request-id')
    await until(async () => {
      const { data } = await pool.admin<{ data: object[] }>(
        'GET',
        `/v1/tenants/${other.name}/usage/events`,
      )
      expect(data).toMatchObject([{ request_id: requestId, key_id: null, model: 'shared' }])
    })
    const base = await pool.call('POST', '/v1/chat/completions', pool.operatorKey, {
      ...chat,
      model: 'fake-base',
    })
    expect(await refusal(base)).toEqual({ status: 403, code: 'permission_denied' })
  })
})

describe('usage', () => {
  it('is exact to the token and priced, once the host has reported', async () => {
    const payer = await pool.addTenant()
    await pool.deploy(payer, 'm', 'weights of m')
    const ask = (model: string, tokens: number) =>
      pool.call('POST', '/v1/chat/completions', payer.key, { ...chat, model, max_tokens: tokens })
    for (const tokens of [3, 5]) expect((await ask('m', tokens)).status).toBe(200)
    expect((await ask('m@1', 7)).status).toBe(200)
    expect((await ask('fake-base', 2)).status).toBe(200)
    const prompt = promptTokens('hello')
    // The full page of 16 tokens that the second and third prompt to the model begin with.
    const cached = (requests: number) => Math.max(0, Math.min(requests, 3) - 1) * 16
    const line = (model: string, requests: number, completion: number) => ({
      model,
      requests,
      prompt_tokens: requests * prompt,
      cached_prompt_tokens: cached(requests),
      completion_tokens: completion,
      gpu_us: expect.any(Number),
      // The seeded price: 0.10, 0.05 where cached, and 0.40 USD per million tokens.
      cost_pusd: String(
        requests * prompt * 100_000 - cached(requests) * 50_000 + completion * 400_000,
      ),
    })
    const usage = await until(async () => {
      const reply = await pool.call('GET', `/v1/tenants/${payer.name}/usage`, payer.key)
      const body = (await reply.json()) as { totals: { requests: number } }
      expect(body.totals.requests).toBe(4)
      return body
    })
    const { model: _, ...totals } = line('', 4, 17)
    expect(usage).toMatchObject({ data: [line('fake-base', 1, 2), line('m', 3, 15)], totals })
    const one = await pool.admin<object>('GET', `/v1/tenants/${payer.name}/usage?model=m`)
    expect(one).toMatchObject({ data: [line('m', 3, 15)] })
    const past = `start=2020-01-01T00:00:00Z&end=1600000000`
    const empty = await pool.admin<object>('GET', `/v1/tenants/${payer.name}/usage?${past}`)
    expect(empty).toMatchObject({
      start: '2020-01-01T00:00:00.000Z',
      end: '2020-09-13T12:26:40.000Z',
      data: [],
      totals: { requests: 0, cost_pusd: '0' },
    })
    const first = await pool.admin<{ data: { request_id: string }[]; next: string }>(
      'GET',
      `/v1/tenants/${payer.name}/usage/events?limit=3`,
    )
    expect(first.data).toHaveLength(3)
    const rest = await pool.admin<{ data: object[]; next: null }>(
      'GET',
      `/v1/tenants/${payer.name}/usage/events?limit=3&after=${first.next}`,
    )
    expect(rest).toMatchObject({ data: [{ key_id: payer.keyId }], next: null })
  })

  it('refuses a period that is none', async () => {
    for (const query of ['start=yesterday', 'start=2026-02-01&end=2026-01-01', 'limit=0']) {
      const path = query.startsWith('limit') ? 'usage/events' : 'usage'
      const url = `/v1/tenants/${tenant.name}/${path}?${query}`
      expect((await pool.call('GET', url, tenant.key)).status).toBe(400)
    }
  })
})

describe('what is seen from outside', () => {
  it('shows the pool to the operator', async () => {
    const { data } = await pool.admin<{ data: object[] }>('GET', '/v1/hosts')
    expect(data).toMatchObject([
      { host_id: 'hst_test', status: 'ready', base_model: 'fake-base', load: { sequences_max: 8 } },
    ])
  })

  it('counts, without naming a tenant', async () => {
    const metrics = await (await fetch(`${pool.url}/metrics`)).text()
    expect(metrics).toContain('nozzle_edge_hosts_ready 1')
    expect(metrics).toMatch(/nozzle_edge_requests_total\{route="\/v1\/tenants",status="201"\} \d+/)
    expect(metrics).toMatch(/nozzle_edge_host_attempts_total\{outcome="ok"\} [1-9]/)
    expect(metrics).not.toContain(tenant.name)
  })

  it('keeps who changed what', async () => {
    const entries = await listAuditEntries(pool.database.db, { tenantId: tenant.id, limit: 100 })
    expect(entries).toContainEqual(
      expect.objectContaining({ action: 'model.deploy', subject: 'triage@1', actor: tenant.keyId }),
    )
    expect(entries.at(-1)).toMatchObject({ action: 'tenant.create', actor: 'operator' })
  })

  it('never logs a key or a prompt', () => {
    const text = JSON.stringify(pool.logs)
    expect(text).toContain(tenant.keyId)
    for (const secret of [tenant.key, pool.operatorKey, 'hello']) expect(text).not.toContain(secret)
  })
})
