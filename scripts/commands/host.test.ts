/** `nozzle host` against a real edge and real hosts with the fake engine. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { setHostWish } from '#db/queries/host-wishes.ts'
import { TestPool, until } from '../../edge/test/support/test-pool.ts'
import { locateDataDir } from '../lib/data-dir.ts'
import { runAgainst, runInEnv } from '../test/cli-run.ts'
import { FIRST_HOST, readHostPlan, writeHostPlan } from '../up/host-plan.ts'

let pool: TestPool
beforeAll(async () => {
  pool = await TestPool.start()
  await pool.addHost({ hostId: 'hst_one', settings: { hostName: 'gpu-1' } })
  await pool.addHost({
    hostId: 'hst_two',
    settings: { hostName: 'gpu-2' },
    engine: { delay: () => new Promise((done) => setTimeout(done, 5)) },
  })
  return () => pool.stop()
})

const run = (...argv: string[]) => runAgainst(pool, ['host', ...argv])
const json = async (...argv: string[]) => JSON.parse((await run(...argv, '--json')).stdout)

describe('nozzle host', () => {
  it('lists and shows what hosts say of themselves', async () => {
    await until(async () => expect((await json('ls')).data).toHaveLength(2))
    const { stdout } = await run('ls')
    expect(stdout).toMatch(/^ID +NAME +STATUS +WISH /)
    expect(stdout).toMatch(
      /\nhst_one +gpu-1 +ready +serve +native +fake-base +0\/\d+ +0, \d+ ms +0 0 0 /,
    )
    expect((await run('show', 'hst_one')).stdout).toMatch(/^status +ready$/m)
    expect((await run('show', 'gpu-2')).stdout).toMatch(/^host id +hst_two\nhost name +gpu-2$/m)
    expect(await run('show', 'hst_nine')).toMatchObject({ exitCode: 3, stdout: '' })
  })

  it('drains, waits for what runs there, resumes and removes', async () => {
    const tenant = await pool.addTenant()
    await run('drain', 'hst_one')
    const sdk = pool.sdk(tenant.key)
    const messages = [{ role: 'user' as const, content: 'hello' }]
    const request = { model: 'fake-base', messages, max_tokens: 100, stream: true as const }
    const stream = (await sdk.chat.completions.create(request))[Symbol.asyncIterator]()
    await stream.next()
    expect((await run('rm', 'hst_two')).exitCode).toBe(4)
    expect(await run('rm', 'hst_two', '--dry-run')).toMatchObject({ exitCode: 4, stdout: '' })
    const unwaited = await run('drain', 'hst_two')
    expect(unwaited).toMatchObject({ exitCode: 0, stdout: 'hst_two: draining, 1 to go\n' })
    const short = await run('drain', 'hst_two', '--wait', '--timeout', '0')
    expect(short).toMatchObject({ exitCode: 6, stdout: '' })
    const waiting = run('drain', 'hst_two', '--wait')
    for (let chunk = await stream.next(); !chunk.done; ) chunk = await stream.next()
    expect(await waiting).toMatchObject({ exitCode: 0, stdout: 'hst_two: drained\n' })
    const load = { sequences_running: 0, queue_depth: 0 }
    expect(await json('show', 'hst_two')).toMatchObject({ status: 'draining', load })
    expect(await run('resume', 'hst_two')).toMatchObject({ stdout: 'hst_two: ready\n' })
    const forced = await run('rm', 'hst_two', '--force', '--dry-run')
    expect(forced.stdout).toBe('would remove hst_two, which is ready\n')
    expect((await run('resume', 'hst_typo')).exitCode).toBe(3)
    expect((await run('drain', 'gpu-1')).stdout).toBe('hst_one: drained\n')
    expect((await run('rm', 'gpu-1')).stdout).toBe('removed hst_one\n')
    expect((await json('ls')).data).toMatchObject([{ host_id: 'hst_two', status: 'ready' }])
  })

  it('does not call a host drained that nobody hears of', async () => {
    await setHostWish(pool.database.db, { id: 'hst_gone', wish: 'drain' })
    const { exitCode, stdout } = await run('drain', 'hst_gone')
    expect({ exitCode, stdout }).toEqual({
      exitCode: 0,
      stdout: 'hst_gone: gone; it drains when it reports\n',
    })
    expect(await run('drain', 'hst_gone', '--wait')).toMatchObject({ exitCode: 6, stdout: '' })
  })

  it('takes a name only where one host alone has it', async () => {
    await pool.addHost({ hostId: 'hst_three', settings: { hostName: 'gpu-2' } })
    await until(async () => expect((await json('show', 'hst_three')).status).toBe('ready'))
    expect(await run('drain', 'gpu-2')).toMatchObject({
      exitCode: 4,
      stdout: '',
      stderr: expect.stringContaining('2 hosts are called "gpu-2", name one by its id: hst_'),
    })
    expect((await json('show', 'hst_three')).status).toBe('ready')
  })

  it('plans a removed host of the pool here no more, unless it is the only one', async () => {
    const root = mkdtempSync(join(tmpdir(), 'nozzle-host-rm-'))
    const env = { NOZZLE_EDGE_URL: pool.url, NOZZLE_API_KEY: pool.operatorKey }
    const remove = (...argv: string[]) =>
      runInEnv(['host', 'rm', ...argv], { ...env, NOZZLE_DATA_DIR: root })
    const dir = locateDataDir({ NOZZLE_DATA_DIR: root }, process.cwd())
    const second = { name: 'host-2', port: 0, restarts: 0 }
    mkdirSync(join(root, 'hosts', 'host-2', 'host'), { recursive: true })
    writeFileSync(join(root, 'hosts', 'host-2', 'host', 'id'), 'hst_two\n')
    writeHostPlan(dir, [second])
    expect(await remove('hst_two', '--force')).toMatchObject({
      exitCode: 4,
      stderr: expect.stringContaining('hst_two is the only host that the pool here runs'),
    })
    writeHostPlan(dir, [FIRST_HOST, second])
    expect((await remove('hst_two', '--force', '--dry-run')).exitCode).toBe(0)
    expect(readHostPlan(dir)).toHaveLength(2)
    const { stdout } = await remove('hst_two', '--force')
    expect(stdout).toBe('removed hst_two; its process here, host-2, ends\n')
    expect(readHostPlan(dir)).toEqual([FIRST_HOST])
    rmSync(root, { recursive: true })
  })

  it('is the operator’s', async () => {
    const { key } = await pool.addTenant()
    expect(await runAgainst(pool, ['host', 'ls'], key)).toMatchObject({ exitCode: 5 })
  })
})
