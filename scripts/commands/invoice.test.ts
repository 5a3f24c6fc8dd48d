/** The command against a real edge with a real ledger, over HTTP. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { recordUsageEvents } from '#db/queries/usage.ts'
import { addBaseModel, createEvent } from '../../db/test/support/records.ts'
import type { TestTenant } from '../../edge/test/support/pool-client.ts'
import { TestPool } from '../../edge/test/support/test-pool.ts'
import { runCli } from '../cli.ts'

let pool: TestPool
let tenant: TestTenant
const directory = mkdtempSync(join(tmpdir(), 'nozzle-invoice-'))
beforeAll(async () => {
  pool = await TestPool.start()
  tenant = await pool.addTenant()
  const { db } = pool.database
  const base_model = await addBaseModel(db)
  const ended_at = '2026-05-20T10:00:00.000Z'
  const events = [
    createEvent(tenant.id, { base_model, ended_at, completion_tokens: 1_000_000 }),
    createEvent(tenant.id, { base_model: 'unknown', ended_at, source: 'recovered' }),
  ]
  await recordUsageEvents(db, events)
})
afterAll(async () => {
  rmSync(directory, { recursive: true })
  await pool.stop()
})

async function nozzle(line: string, key = pool.operatorKey) {
  const written = { stdout: '', stderr: '' }
  const idle = new AbortController().signal
  const exitCode = await runCli(line.split(' '), {
    env: {
      ...{ NOZZLE_DATA_DIR: directory, NOZZLE_EDGE_URL: pool.url },
      ...{ NOZZLE_API_KEY: key, NOZZLE_TENANT: tenant.name },
    },
    projectRoot: directory,
    stdout: { write: (piece) => (written.stdout += piece) },
    stderr: { write: (piece) => (written.stderr += piece) },
    ...{ signal: idle, hurry: idle, readStdin: null },
  })
  return { exitCode, ...written }
}

describe('nozzle invoice', () => {
  it('makes, shows, finalizes and lists, and says what is out of the ordinary', async () => {
    const made = await nozzle('invoice create 2026-05')
    expect(made).toMatchObject({ exitCode: 0, stderr: expect.stringContaining('invoice finalize') })
    expect(made.stdout).toMatch(
      /2026-05 +support-bot .* completion +1000000 +0\.40 +0\.40 +0\.40\n/,
    )
    expect(made.stdout).toMatch(/completion +25 +unpriced +0\.00 +0\.00\n/)
    expect(made.stdout).toContain('1 requests unpriced')
    expect(made.stdout).toContain('1 requests recovered')
    const planned = await nozzle('invoice finalize 2026-05 --dry-run')
    expect(planned.stdout).toMatch(/^would finalize inv_\w+: 0\.40 USD\n$/)
    const final = await nozzle('invoice finalize 2026-05 --json')
    expect(JSON.parse(final.stdout)).toMatchObject({ status: 'final', billed_usd: '0.40' })
    const list = await nozzle('invoice ls', tenant.key)
    expect(list.stdout).toMatch(/2026-05 +final +1 +0\.40 /)
    const shown = await nozzle('invoice show 2026-05', tenant.key)
    expect(shown.stdout).toMatch(/total 0\.40 USD \(exact 0\.40000[\d]+\), 2 requests/)
  })

  it('writes files with a manifest beside them, or to stdout', async () => {
    await nozzle('invoice create 2026-05')
    const file = join(directory, 'acme.csv')
    const written = await nozzle(`invoice export 2026-05 --format focus --output ${file}`)
    expect(written).toMatchObject({ exitCode: 0, stdout: '' })
    expect(readFileSync(file, 'utf8')).toMatch(/^BilledCost,/)
    const manifest = JSON.parse(readFileSync(`${file}.manifest.json`, 'utf8'))
    expect(manifest).toMatchObject({ schema: 'FOCUS 1.2', rows: 6, billed_total: '0.40' })
    await nozzle(`invoice export 2026-05 --format table --output ${file}`)
    expect(existsSync(`${file}.manifest.json`)).toBe(false)
    const csv = await nozzle('invoice export 2026-05')
    expect(csv.stdout.split('\r\n')).toHaveLength(8)
    expect(JSON.parse(csv.stderr)).toMatchObject({ schema: 'nozzle-invoice 1.0', rows: 6 })
    const json = await nozzle('invoice export 2026-05 --json')
    expect(JSON.parse(json.stdout)).toMatchObject({ manifest: { rows: 6 } })
    const table = await nozzle('invoice export 2026-05 --format table')
    expect(table.stdout).toContain('total 0.40 USD')
  })

  it('fails with the exit code that says how', async () => {
    const month = new Date().toISOString().slice(0, 7)
    const running = await nozzle(`invoice create ${month}`)
    expect(running.stderr).toMatch(/^From .*Z on: nozzle invoice finalize inv_/)
    expect((await nozzle(`invoice create ${month} --json`)).stderr).toBe('')
    expect((await nozzle('invoice ls')).stdout).toMatch(/draft +draft/)
    expect(await nozzle(`invoice finalize ${month} --ignore-grace`)).toMatchObject({
      exitCode: 4,
      stderr: expect.stringContaining('The period is not over'),
    })
    await nozzle('invoice create 2026-03')
    await nozzle('invoice create 2026-04')
    for (const flag of ['', ' --dry-run']) {
      const { exitCode } = await nozzle(`invoice finalize 2026-04${flag}`)
      expect(exitCode, flag).toBe(4)
    }
    await nozzle('invoice finalize 2026-03')
    expect((await nozzle('invoice finalize 2026-04')).exitCode).toBe(0)
    expect((await nozzle('invoice show 2025-01')).exitCode).toBe(3)
    expect((await nozzle('invoice create 2026-05', tenant.key)).exitCode).toBe(5)
    for (const line of ['create 2099-12', `finalize ${month}`]) {
      for (const flag of ['', ' --dry-run']) {
        expect((await nozzle(`invoice ${line}${flag}`)).exitCode, line + flag).toBe(4)
      }
    }
    expect((await nozzle('invoice create 2026-05 --dry-run', tenant.key)).exitCode).toBe(5)
    expect((await nozzle('invoice create May')).exitCode).toBe(2)
    expect((await nozzle('invoice export 2026-05 --json --format focus')).exitCode).toBe(2)
    writeFileSync(join(directory, 'taken'), '')
    const file = join(directory, 'taken', 'file.csv')
    await nozzle('invoice create 2026-05')
    expect((await nozzle(`invoice export 2026-05 --output ${file}`)).exitCode).toBe(3)
  })
})

describe('nozzle usage', () => {
  it('is CSV where asked, a row a model', async () => {
    const period = '--start 2026-05-01 --end 2026-06-01'
    const { stdout } = await nozzle(`usage ${period} --format csv`)
    const [header, row, end] = stdout.split('\r\n')
    expect(header).toBe(
      'start,end,model,requests,prompt_tokens,cached_prompt_tokens,completion_tokens,cost_pusd,cost_usd',
    )
    expect(row).toMatch(
      /^2026-05-01T00:00:00.000Z,[^,]+,support-bot,2,200,80,1000025,\d+,0\.4000\d+$/,
    )
    expect(end).toBe('')
  })
})
