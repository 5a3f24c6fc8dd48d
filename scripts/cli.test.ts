import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { COMMANDS, runCli } from './cli.ts'
import type { Ask } from './lib/terminal-question.ts'

const idle = new AbortController().signal
let directory = ''
/** Answers by `METHOD path`; what a request carried is kept. */
let routes: Record<string, { status: number; body: string }> = {}
let seen: { line: string; key: string | undefined; body: string }[] = []
let edge: Server
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'nozzle-cli-'))
  seen = []
  routes = {}
  edge = createServer(async (request, response) => {
    const line = `${request.method} ${request.url}`
    const body = await text(request)
    seen.push({ line, key: request.headers.authorization, body })
    const known = routes[line] ?? { status: 404, body: '{"error":{"message":"none"}}' }
    response.writeHead(known.status).end(known.body)
  })
  edge.listen(0, '127.0.0.1')
  await once(edge, 'listening')
})
afterEach(() => {
  edge.close()
  edge.closeAllConnections()
  rmSync(directory, { recursive: true, force: true })
})

async function run(
  line: string,
  env: NodeJS.ProcessEnv = {},
  stdin: string | null = null,
  ask: Ask | null = null,
) {
  const written = { stdout: '', stderr: '' }
  const exitCode = await runCli(line.split(' ').filter(Boolean), {
    env: { NOZZLE_DATA_DIR: directory, ...env },
    projectRoot: directory,
    stdout: { write: (piece) => (written.stdout += piece) },
    stderr: { write: (piece) => (written.stderr += piece) },
    signal: idle,
    hurry: idle,
    readStdin: stdin === null ? null : async () => stdin,
    ask,
  })
  return { exitCode, ...written }
}

const edgeEnv = () => ({
  NOZZLE_EDGE_URL: `http://127.0.0.1:${(edge.address() as AddressInfo).port}`,
  NOZZLE_API_KEY: 'nz_given',
  NOZZLE_TENANT: 'acme',
})

const ACME = { id: 'ten_1', name: 'acme', weight: 1, created_at: '2026-11-01T00:00:00Z' }
const limitOf = (key_id: string | null) => ({
  ...{ key_id, requests_per_minute: 60, tokens_per_minute: null, concurrency: null },
  ...{ monthly_spend_pusd: null, updated_at: 'now' },
})
const priceOf = (prompt_pusd: string) => ({
  ...{ id: 'prc_1', base_model: 'base', version: 1, created_at: 'now' },
  ...{ prompt_pusd, cached_prompt_pusd: '50000', completion_pusd: '400000' },
})

describe('up', () => {
  it.each(['--device abacus', ''])('refuses a device that does not exist (%s)', async (flag) => {
    const env = flag === '' ? { NOZZLE_DEVICE: 'abacus' } : {}
    const { exitCode, stderr } = await run(`up ${flag}`, env)
    expect(exitCode).toBe(2)
    expect(stderr).toMatch(/--device must be one of auto, cpu, cuda, not "abacus"/)
  })

  it.each([
    ['--engine loom', /--engine must be native or vllm, not "loom"/],
    ['--engine vllm', /needs --vllm-url/],
    ['--engine vllm --vllm-url http://gpu:8000', /needs NOZZLE_BASE_MODEL/],
    ['--vllm-url http://gpu:8000', /goes with --engine vllm/],
  ])('refuses an engine that it cannot run (%s)', async (flags, reason) => {
    const { exitCode, stderr } = await run(`up ${flags}`)
    expect(exitCode).toBe(2)
    expect(stderr).toMatch(reason)
  })
})

describe('help', () => {
  it('lists every command, and each has its own with flags and examples', async () => {
    const overview = await run('--help')
    expect(overview.exitCode).toBe(0)
    for (const { name, examples, flags } of COMMANDS) {
      expect(overview.stdout).toContain(`  ${name}`)
      const { exitCode, stdout } = await run(`${name} --help`)
      expect(exitCode).toBe(0)
      for (const example of examples) expect(stdout).toContain(example)
      for (const flag of Object.keys(flags)) expect(stdout).toContain(`--${flag}`)
    }
  })
})

describe('exit codes', () => {
  it.each([
    ['frobnicate', 2, 'unknown command "frobnicate"'],
    ['tenant', 2, '"tenant" alone is no command'],
    ['host', 2, '`nozzle host drain`'],
    ['host add --url http://h:1', 2, '--url goes with --write-env'],
    ['host add --name h', 2, '--name goes with --write-env'],
    ['host run --env nope', 3, '--env '],
    ['model split my-model 1=90', 2, 'm@3=90'],
    ['model split m 1=90 2=10', 2, '<model[@version=percent]> [model@version=percent]'],
    ['tenant ls --colour', 2, 'unknown flag --colour'],
    ['tenant create', 2, '<name> is needed'],
    ['tenant set acme', 2, '--weight is needed'],
    ['tenant set acme --weight 0', 2, '--weight must be a number from 1 to 1000'],
    ['deploy ./nowhere', 2, '--model is needed'],
    ['deploy ./nowhere --model m', 3, 'nowhere does not exist'],
    ['tenant ls', 6, 'no pool runs from'],
    ['tenant ls --edge-url ftp://x', 2, 'is not an http(s) URL'],
    ['tenant ls --edge-url http://127.0.0.1:1', 5, 'no API key'],
    ['tenant ls --edge-url http://127.0.0.1:1 --api-key k', 6, 'does not answer'],
    ['key ls --edge-url http://127.0.0.1:1 --api-key k', 6, 'does not answer'],
    ['chat m --edge-url http://127.0.0.1:1 --api-key k', 2, 'no prompt'],
    ['usage --format xml', 2, '--format must be one of table, csv, json, not "xml"'],
    ['invoice', 2, '`nozzle invoice create`'],
    ['invoice show', 2, '<invoice> is needed'],
    ['invoice create 2026-13', 2, '<month> must be a month in UTC from 2000-01 to 2099-12'],
    ['invoice create 1999-01 --dry-run', 2, 'from 2000-01 to 2099-12, such as'],
    ['invoice export 2026-05 --output=', 2, '--output needs a value'],
    ['invoice export 2026-05 --output /nonexistent/dir/f.csv', 3, 'no folder /nonexistent/dir'],
    ['invoice export 2026-05 --output /', 2, '--output / is a folder'],
    ['usage --start 2099-12-01', 2, '--start lies in the future'],
    ['limit set --rpm -5', 2, '--rpm needs a value; one that begins with - is written --rpm=-…'],
    ['limit set --monthly-usd=-1', 2, '--monthly-usd must not be negative'],
    ['limit set --monthly-usd 1234567890123456', 2, '--monthly-usd is too large'],
    ['price set base --prompt 0.1 --cached-prompt 0', 2, '--completion is needed'],
    ['limit set', 2, 'name a limit'],
    ['host add --edge-url http://127.0.0.1:1 --api-key k', 6, 'no pool runs from'],
    ['host roll --edge-url http://127.0.0.1:1 --api-key k', 6, 'no pool runs from'],
    ['host run', 2, '--env is needed'],
    ['host run --env /nonexistent.env', 3, '/nonexistent.env'],
    ['limit set --rpm many', 2, '--rpm must be a number'],
    ['limit set --monthly-usd -1', 2, '--monthly-usd'],
    ['price set base --prompt=-1', 2, '--prompt must not be negative'],
    ['price set base --prompt 1e3', 2, '--prompt must be US dollars per million tokens'],
  ])('nozzle %s → %d', async (line, exitCode, message) => {
    const result = await run(line)
    expect(result).toMatchObject({ exitCode, stdout: '' })
    expect(result.stderr).toMatch(/^error: /)
    expect(result.stderr).toContain(message)
  })

  it('says with --json in JSON what went wrong', async () => {
    const { exitCode, stderr } = await run('tenant ls --json')
    expect(exitCode).toBe(6)
    expect(JSON.parse(stderr).error).toMatchObject({ code: 'unavailable', fix: expect.any(String) })
  })

  it('refuses a pickle', async () => {
    writeFileSync(join(directory, 'adapter_config.json'), '{}')
    writeFileSync(join(directory, 'adapter_model.bin'), '')
    const { exitCode, stderr } = await run(`deploy ${directory} --model m`)
    expect(exitCode).toBe(4)
    expect(stderr).toContain('safe_serialization=True')
  })
})

describe('commands', () => {
  it('send the given key to the given edge, and print what comes back', async () => {
    const tenant = { ...ACME, plan: 'new' }
    routes['GET /v1/tenants'] = { status: 200, body: JSON.stringify({ data: [tenant] }) }
    const table = await run('tenant ls', edgeEnv())
    expect(table.stdout).toBe(
      'NAME  ID     WEIGHT  CREATED\nacme  ten_1  1       2026-11-01T00:00:00Z\n',
    )
    const json = await run('tenant ls --json', edgeEnv())
    expect(JSON.parse(json.stdout)).toEqual({ data: [tenant] })
    expect(seen[0]?.key).toBe('Bearer nz_given')
  })

  it('print a new key alone on stdout', async () => {
    const key = { id: 'key_1', key: 'nz_secret', name: null, scopes: ['generate', 'deploy'] }
    routes['POST /v1/tenants/acme/keys'] = { status: 201, body: JSON.stringify(key) }
    const { stdout, stderr } = await run('key create --scopes generate,deploy', edgeEnv())
    expect(stdout).toBe('nz_secret\n')
    expect(stderr).not.toContain('nz_secret')
    expect(JSON.parse(seen[0]?.body ?? '')).toEqual({ scopes: ['generate', 'deploy'] })
  })

  it.each([
    ['tenant create acme', 0],
    ['tenant set acme --weight 3', 0],
    ['tenant set nobody --weight 3', 3],
    ['key create', 0],
    ['key revoke key_1', 3],
    ['model rm m', 3],
    ['limit set --tpm 1000', 0],
    ['limit set --tpm 1000 --key key_1', 3],
    ['limit set --tpm 1000 --tenant nobody', 3],
    ['limit rm', 3],
    ['limit rm --key key_2', 0],
    ['price set base --prompt 0.1 --cached-prompt 0.05 --completion 0.4', 0],
    ['price set nobody --prompt 0.1 --cached-prompt 0.05 --completion 0.4', 3],
    ['invoice create 2026-10', 0],
    ['invoice create 2099-12', 4],
    ['invoice create 2026-10 --tenant nobody', 3],
    ['invoice finalize 2026-11', 3],
  ])('change nothing with --dry-run: %s', async (line, exitCode) => {
    const none = { status: 200, body: '{"data":[]}' }
    const list = (...data: object[]) => ({ status: 200, body: JSON.stringify({ data }) })
    for (const path of ['', '/acme/keys', '/acme/invoices']) routes[`GET /v1/tenants${path}`] = none
    routes['GET /v1/tenants/acme/limits'] = list(limitOf('key_2'))
    routes['GET /v1/tenants/acme'] = { status: 200, body: JSON.stringify(ACME) }
    routes['GET /v1/prices?base_model=base'] = list(priceOf('200000'))
    routes['GET /v1/prices?base_model=nobody'] = none
    const result = await run(`${line} --dry-run`, edgeEnv())
    expect(result.exitCode).toBe(exitCode)
    expect(seen.filter((request) => !request.line.startsWith('GET '))).toEqual([])
  })

  it('say with --dry-run what would change', async () => {
    const list = (...data: object[]) => ({ status: 200, body: JSON.stringify({ data }) })
    for (const path of ['', '/acme/limits']) routes[`GET /v1/tenants${path}`] = list()
    routes['GET /v1/prices?base_model=base'] = list(priceOf('200000'))
    const limit = await run('limit set --rpm 5 --tpm none --monthly-usd 50 --dry-run', edgeEnv())
    expect(limit.stdout).toBe(
      'would limit acme: 5 requests/min, any number of tokens/min, budget 50.00 USD a month\n',
    )
    const line = 'price set base --prompt 0.1 --cached-prompt 0.05 --completion 0.4 --dry-run'
    expect((await run(line, edgeEnv())).stdout).toBe(
      'would add version 2 of base: 0.10/0.05/0.40 USD per million prompt/cached/completion tokens\n',
    )
  })

  it('add no version of a price that is in force', async () => {
    routes['GET /v1/prices?base_model=base'] = {
      status: 200,
      body: JSON.stringify({ data: [priceOf('100000')] }),
    }
    const line = 'price set base --prompt 0.1 --cached-prompt 0.05 --completion 0.4'
    const { exitCode, stdout, stderr } = await run(line, edgeEnv())
    expect([exitCode, seen.length]).toEqual([0, 1])
    expect(stderr).toContain('in force already')
    expect(stdout).toMatch(/base +1 +0\.10 /)
  })

  it('set a key’s limits, money as pico-USD, and take one away', async () => {
    const row = {
      key_id: 'key_1',
      requests_per_minute: 60,
      tokens_per_minute: null,
      concurrency: null,
      monthly_spend_pusd: '2500000000000',
      updated_at: 'now',
    }
    routes['PATCH /v1/tenants/acme/keys/key_1/limits'] = { status: 200, body: JSON.stringify(row) }
    const line = 'limit set --key key_1 --rpm 60 --concurrency none --monthly-usd 2.5'
    const { exitCode, stdout } = await run(line, edgeEnv())
    expect(exitCode).toBe(0)
    expect(stdout).toContain('2.50')
    expect(JSON.parse(seen[0]?.body ?? '')).toEqual({
      requests_per_minute: 60,
      concurrency: null,
      monthly_spend_pusd: '2500000000000',
    })
  })

  it('set a price in USD per million tokens, sent as pico-USD per token', async () => {
    const price = { prompt_pusd: '100000', cached_prompt_pusd: '50001', completion_pusd: '0' }
    const row = { id: 'prc_1', base_model: 'base', version: 2, created_at: 'now', ...price }
    routes['POST /v1/prices'] = { status: 201, body: JSON.stringify(row) }
    routes['GET /v1/prices?base_model=base'] = {
      status: 200,
      body: JSON.stringify({ data: [priceOf('200000')] }),
    }
    const line = 'price set base --prompt 0.10 --cached-prompt 0.050001 --completion 0'
    const { exitCode, stdout } = await run(line, edgeEnv())
    expect(exitCode).toBe(0)
    expect(JSON.parse(seen.at(-1)?.body ?? '')).toEqual({ base_model: 'base', ...price })
    expect(stdout).toMatch(/base +2 +0\.10 +0\.050001 +0\.00 +now +prc_1/)
  })

  it('upload both files of an adapter', async () => {
    writeFileSync(join(directory, 'adapter_config.json'), '{"r":8}')
    writeFileSync(join(directory, 'adapter_model.safetensors'), 'weights')
    routes['GET /v1/tenants/acme/models'] = { status: 200, body: '{"data":[]}' }
    const deployed = {
      ...{ model: 'm', version: 2, digest: 'sha256:0', base_model: 'base', rank: 8 },
      ...{ target_modules: ['attn_q'], pack_bytes: 1e6, endpoint: 'http://e/v1' },
      ...{ unchanged: false, canary: null, ended_canary: { version: 1, weight: 30 } },
    }
    const plan = { status: 200, body: '{"mode":"through_edge"}' }
    for (const tenant of ['acme', 'demo']) {
      routes[`POST /v1/tenants/${tenant}/models/m/uploads`] = plan
    }
    const path = 'POST /v1/tenants/acme/models/m/versions'
    routes[path] = { status: 201, body: JSON.stringify(deployed) }
    const { exitCode, stdout, stderr } = await run(`deploy ${directory} --model m`, edgeEnv())
    expect(exitCode).toBe(0)
    expect(stderr).toContain('the canary that ran, version 1 (30 %), has ended')
    expect(stdout).toContain('version   2\n')
    expect(stdout).toContain('curl -s http://e/v1/chat/completions')
    const body = seen.at(-1)?.body ?? ''
    expect(body).toMatch(/name="config"[^\n]*\r\n[^\n]*\r\n\r\n\{"r":8\}/)
    expect(body).toMatch(/name="weights"[^\n]*\r\n[^\n]*\r\n\r\nweights/)
    expect(stdout).toContain('Bearer $NOZZLE_API_KEY')
    const secrets = { pool_secret: 's'.repeat(32), key_pepper: 'p'.repeat(32) }
    const here = JSON.stringify({ ...secrets, operator_key: 'nz_operator' })
    writeFileSync(join(directory, 'secrets.json'), here)
    writeFileSync(join(directory, 'demo-key'), 'nz_demo')
    routes['GET /v1/tenants/demo/models'] = { status: 200, body: '{"data":[]}' }
    const demoPath = 'POST /v1/tenants/demo/models/m/versions'
    routes[demoPath] = { status: 201, body: JSON.stringify(deployed) }
    const { NOZZLE_EDGE_URL } = edgeEnv()
    const demo = await run(`deploy ${directory} --model m`, { NOZZLE_EDGE_URL })
    expect(demo.stdout).toContain(`Bearer $(cat ${join(directory, 'demo-key')})`)
    const elsewhere = await run('tenant ls --edge-url https://edge.invalid')
    expect(elsewhere).toMatchObject({ exitCode: 5, stdout: '' })
    expect(elsewhere.stderr).toContain('no API key for https://edge.invalid')
  })

  it('show exact cost', async () => {
    const counts = { requests: 1, prompt_tokens: 2, cached_prompt_tokens: 0, completion_tokens: 3 }
    const row = { ...counts, cost_pusd: '9007199254740993000001' }
    const report = { start: null, end: null, data: [{ ...row, model: 'm' }], totals: row }
    routes['GET /v1/tenants/acme/usage?start=2026-11-01T00%3A00%3A00.000Z'] = {
      status: 200,
      body: JSON.stringify(report),
    }
    const { stdout } = await run('usage --start 2026-11-01', edgeEnv())
    expect(stdout).toContain('9007199254.740993000001')
  })

  it('hold a conversation at a terminal, in which all that was said is known', async () => {
    const chunk = (value: object) => `data: ${JSON.stringify(value)}\n\n`
    const answer = chunk({ choices: [{ delta: { content: 'Hello' } }] })
    routes['POST /v1/chat/completions'] = { status: 200, body: `${answer}data: [DONE]\n\n` }
    const typed = ['Hi', 'Again', '']
    const ask = async (): Promise<string> => typed.shift() ?? ''
    const talk = await run('chat m --system Short', edgeEnv(), null, ask)
    expect(talk).toMatchObject({ exitCode: 0, stdout: 'Hello\nHello\n' })
    const asked = seen.map(({ body }) => JSON.parse(body).messages)
    const system = { role: 'system', content: 'Short' }
    const [first, second] = ['Hi', 'Again'].map((content) => ({ role: 'user', content }))
    expect(asked).toEqual([
      [system, first],
      [system, first, { role: 'assistant', content: 'Hello' }, second],
    ])
  })

  it('stream a chat answer as it comes', async () => {
    const chunk = (value: object) => `data: ${JSON.stringify(value)}\n\n`
    const body = [
      chunk({ choices: [{ delta: { role: 'assistant' } }] }),
      chunk({ choices: [{ delta: { content: 'Hel' } }] }),
      chunk({ choices: [{ delta: { content: 'lo' } }] }),
      chunk({ choices: [], usage: { prompt_tokens: 5, completion_tokens: 2 } }),
    ].join('')
    routes['POST /v1/chat/completions'] = { status: 200, body: `${body}data: [DONE]\n\n` }
    const whole = await run('chat m --temperature 0', edgeEnv(), 'Hi\n')
    expect(whole).toMatchObject({ exitCode: 0, stdout: 'Hello\n' })
    expect(JSON.parse(seen[0]?.body ?? '')).toMatchObject({
      model: 'acme/m',
      messages: [{ role: 'user', content: 'Hi' }],
      temperature: 0,
      stream: true,
    })
    const lines = await run('chat m --json --stream', edgeEnv(), 'Hi')
    const chunks = lines.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(chunks).toHaveLength(4)
    expect(chunks[1]).toEqual({ choices: [{ delta: { content: 'Hel' } }] })
    expect(lines.stderr).toBe('')
    routes['POST /v1/chat/completions'] = { status: 200, body }
    const cut = await run('chat m', edgeEnv(), 'Hi')
    expect(cut.exitCode).toBe(6)
    expect(cut.stderr).toContain('the stream ended before the answer did')
  })
})
