/** `nozzle deploy` and `nozzle model` against a real edge and a real host with the fake engine. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { TestPool } from '../../edge/test/support/test-pool.ts'
import { runAgainst } from '../test/cli-run.ts'

let pool: TestPool
let directory = ''
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'nozzle-model-'))
  pool = await TestPool.start()
  await pool.addHost()
})
afterAll(async () => {
  await pool.stop()
  rmSync(directory, { recursive: true, force: true })
})

function writeAdapter(weights: string): string {
  writeFileSync(join(directory, 'adapter_config.json'), '{}')
  writeFileSync(join(directory, 'adapter_model.safetensors'), weights)
  return directory
}

async function addModel(versions: readonly string[]) {
  const { name, key } = await pool.addTenant(['generate', 'deploy'])
  const run = (...argv: string[]) => runAgainst(pool, [...argv, '--tenant', name], key)
  for (const weights of versions) await run('deploy', writeAdapter(weights), '--model', 'bot')
  const lanes = async () => (await run('model', 'ls')).stdout
  return { name, run, lanes }
}

describe('the life of a model', () => {
  it('goes from a canary over a split to a promotion, and back', async () => {
    const { name, run, lanes } = await addModel(['one'])
    const canary = await run('deploy', writeAdapter('two'), '--model', 'bot', '--canary', '10')
    expect(canary).toMatchObject({ exitCode: 0 })
    expect(canary.stdout).toContain('version   2 (canary, 10 %)')
    expect(await lanes()).toContain('1 90 %, 2 10 %')
    expect(await run('model', 'split', 'bot', '--canary-weight', '25')).toMatchObject({
      exitCode: 0,
      stdout: `${name}/bot: version 1 serves 75 %, canary 2 25 %\n`,
    })
    expect((await run('model', 'show', 'bot')).stdout).toMatch(/^ +2 +25 %.*\n +1 +75 % /m)
    expect(await run('model', 'promote', 'bot', '--dry-run')).toMatchObject({
      stdout: `would be ${name}/bot: version 2 serves all requests\n`,
    })
    expect(await lanes()).toContain('1 75 %, 2 25 %')
    expect((await run('model', 'promote', 'bot')).exitCode).toBe(0)
    expect(await run('model', 'rollback', 'bot')).toMatchObject({
      stdout: `${name}/bot: version 1 serves all requests\n`,
    })
    const split = await run('model', 'split', 'bot@1=40', 'bot@2=60', '--json')
    expect(JSON.parse(split.stdout)).toMatchObject({ main: 1, canary: { version: 2, weight: 60 } })
    expect((await run('model', 'rollback', 'bot', '--to', '2')).exitCode).toBe(0)
    expect(await lanes()).toMatch(/bot +2 /)
  })

  it.each([
    [['rollback', 'bot'], 4, 'replaced none'],
    [['promote', 'bot'], 4, 'No canary'],
    [['split', 'bot', '--canary-weight', '10'], 4, 'No canary'],
    [['split', 'bot', '--canary-weight', '101'], 2, 'from 0 to 100'],
    [['split', 'bot'], 2, 'is not <model>@<version>=<percent>'],
    [['split', 'bot@1=50', 'other@2=50'], 2, 'of one model'],
    [['split', 'bot@1=50', 'bot@9=50'], 3, 'no version 9'],
    [['split', 'bot@1=50'], 4, 'make 100'],
    [['rollback', 'bot', '--to', '9'], 3, 'no version 9'],
    [['rollback', 'nobody'], 3, 'no model "nobody"'],
  ])('refuses %j', async (argv, exitCode, message) => {
    const { run } = await addModel(['one'])
    const result = await run('model', ...argv)
    expect(result).toMatchObject({ exitCode, stdout: '' })
    expect(result.stderr).toContain(message)
  })

  it('is of the tenant whose key is given, unless another is named', async () => {
    const { name, key } = await pool.addTenant(['generate', 'deploy'])
    await runAgainst(pool, ['deploy', writeAdapter('own'), '--model', 'mine'], key)
    const mine = await runAgainst(pool, ['model', 'ls', '--json'], key)
    expect(JSON.parse(mine.stdout).data).toMatchObject([{ name: 'mine' }])
    const removed = await runAgainst(pool, ['model', 'rm', 'mine'], key)
    expect(removed.stdout).toBe(`removed ${name}/mine\n`)
    const operator = await runAgainst(pool, ['model', 'ls'])
    expect(operator).toMatchObject({ exitCode: 2, stdout: '' })
    expect(operator.stderr).toContain('name the tenant with --tenant')
  })

  it('says when the bytes serve already, and makes a version of them when forced', async () => {
    const { run } = await addModel(['one'])
    const again = await run('deploy', writeAdapter('one'), '--model', 'bot')
    expect(again.exitCode).toBe(0)
    expect(again.stderr).toContain('version 1 of these bytes serves already')
    const forced = await run('deploy', writeAdapter('one'), '--model', 'bot', '--force')
    expect(forced.stdout).toContain('version   2\n')
  })
})
