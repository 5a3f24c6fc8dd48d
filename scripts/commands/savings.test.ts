import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import type { TestTenant } from '../../edge/test/support/pool-client.ts'
import { TestPool, until } from '../../edge/test/support/test-pool.ts'
import { runAgainst } from '../test/cli-run.ts'

const beganMs = Date.now()
let pool: TestPool
let tenant: TestTenant
beforeAll(async () => {
  pool = await TestPool.start()
  await pool.addHost()
  tenant = await pool.addTenant()
  await pool.deploy(tenant, 'busy', 'weights of the busy one')
  await pool.deploy(tenant, 'asleep', 'other weights')
  const messages = [{ role: 'user' as const, content: 'hello' }]
  const model = `${tenant.name}/busy`
  await pool.sdk(tenant.key).chat.completions.create({ model, messages, max_tokens: 4 })
  await until(async () => {
    const { data } = await pool.admin<{ data: unknown[] }>(
      'GET',
      `/v1/tenants/${tenant.name}/usage/events`,
    )
    if (data.length === 0) throw new Error('the event is on its way')
  })
})
afterAll(() => pool.stop())

const run = (line: string, apiKey?: string) => runAgainst(pool, line.split(' '), apiKey)

const money = z.string().regex(/^\d+$/).transform(BigInt)
const report = z.object({
  assumptions: z.object({ hosts: z.int(), notes: z.array(z.string()).min(1) }),
  pool: z.object({ pool: z.object({ total_pusd: money, idle_pusd: money }) }),
  data: z.array(
    z.object({
      tenant: z.string(),
      model: z.string(),
      requests: z.int(),
      stored_bytes: money,
      pool: z.object({ used_pusd: money, storage_pusd: money, total_pusd: money }),
      dedicated: z.object({ total_pusd: money }),
      scale_to_zero: z.object({ cold_starts: z.int(), waited_s: z.number(), total_pusd: money }),
    }),
  ),
  at: z.object({ tenants: z.int(), hosts: z.int(), saved_percent_vs_dedicated: z.number() }),
})

describe('nozzle savings', () => {
  it('reckons from the real events what each model cost, and would cost elsewhere', async () => {
    const start = new Date(Date.now() - 3_600_000).toISOString()
    const end = new Date(Date.now() + 3_600_000).toISOString()
    const flags = `--start ${start} --end ${end} --cold-start-s 30 --tenants 1000 --json`
    const { exitCode, stdout, stderr } = await run(`savings ${flags}`)
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' })
    const { assumptions, pool: whole, data, at } = report.parse(JSON.parse(stdout))
    expect(assumptions.hosts).toBe(1)
    // Two hours of one host at 2.50 USD, and the storage of two small adapters.
    expect(whole.pool.total_pusd - 5_000_000_000_000n).toBeLessThan(1000n)
    const [asleep, busy] = ['asleep', 'busy'].map((name) => data.find((m) => m.model === name))
    expect(busy).toMatchObject({ tenant: tenant.name, requests: 1, stored_bytes: 23n })
    expect(busy?.pool.used_pusd).toBeGreaterThan(0n)
    expect(busy?.scale_to_zero).toMatchObject({ cold_starts: 1, waited_s: 30 })
    expect(asleep?.pool.total_pusd).toBe(asleep?.pool.storage_pusd)
    expect(asleep?.dedicated.total_pusd).toBeGreaterThan(2_000_000_000_000n)
    expect(at).toMatchObject({ tenants: 1000, hosts: 1 })
    // Two models for each: about 2,000 hours of machines, and two of one host.
    expect(at.saved_percent_vs_dedicated).toBeCloseTo(99.9, 1)
  })

  it('bills a pool that has just been made from its first deploy on, and says so', async () => {
    const { stdout } = await run('savings --json')
    const young = z
      .object({
        ...{ start: z.string(), end: z.string(), start_is: z.string() },
        warnings: z.array(z.string()),
        pool: z.object({ pool: z.object({ total_pusd: money }) }),
        data: z.array(z.object({ dedicated: z.object({ saved_percent: z.number() }) })),
      })
      .parse(JSON.parse(stdout))
    expect(young.start_is).toBe('first_use')
    // All of the pool is younger than this test: no more than its own life may be billed.
    const lifeMs = BigInt(Date.parse(young.end) - Date.parse(young.start))
    expect(Date.parse(young.start)).toBeGreaterThanOrEqual(beganMs)
    const hostPusd = (lifeMs * 2_500_000_000_000n) / 3_600_000n
    expect(young.pool.pool.total_pusd - hostPusd).toBeLessThan(1000n)
    expect(young.warnings).toEqual([expect.stringMatching(/^the period is \d+ s long/)])
    const table = await run('savings')
    expect(table.stdout).toContain('(first deploy or request of this pool; --start)')
    expect(table.stdout).toContain('WARNING: the period is')
    const given = await run(`savings --start ${new Date(beganMs - 3_600_000).toISOString()}`)
    expect(given.stdout).toContain('(as given; --start)')
    expect(given.stdout).not.toContain('WARNING')
  })

  it('prints a table with everything that it assumes', async () => {
    const { stdout } = await run(`savings --tenant ${tenant.name} --top 1 --hosts 3`)
    expect(stdout).toContain('MODEL')
    expect(stdout).toContain('1 more')
    expect(stdout).toContain('3 host(s) were on all the time (given')
    for (const flag of ['gpu-usd-per-hour', 'cold-start-s', 'keep-warm-s', 'storage-usd-per-gib']) {
      expect(stdout).toContain(`--${flag}`)
    }
  })

  it.each([
    ['savings --tenant nobody', 3, 'tenant "nobody" has no model'],
    ['savings --gpu-usd-per-hour cheap', 2, '--gpu-usd-per-hour must be an amount like 2.50'],
    ['savings --start 2026-12-01 --end 2026-11-01', 2, '--start must be before --end'],
    ['savings threshold --results /nowhere', 3, 'base-demo'],
  ])('%s → %d', async (line, exitCode, message) => {
    const result = await run(line)
    expect(result).toMatchObject({ exitCode, stdout: '' })
    expect(result.stderr).toContain(message)
  })

  it('is for the operator alone', async () => {
    expect((await run('savings', tenant.key)).exitCode).toBe(5)
  })
})

describe('nozzle savings threshold', () => {
  it('names the goals, and the reports that they rest on', async () => {
    const { exitCode, stdout } = await run('savings threshold')
    expect(exitCode).toBe(0)
    expect(stdout).toMatch(/^asleep +0\.0 +> 100000 +11 +11 +101 +101/m)
    expect(stdout).toMatch(/bench\/results\/mix-demo-16-tenants-\S+\.json \(shape demo; cpu/)
  })
})
