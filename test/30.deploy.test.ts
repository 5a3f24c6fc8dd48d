/**
 * A deploy needs no restart and no idle moment, and an adapter that cannot be served is refused by
 * name: while traffic to the other models goes on as if nothing happened.
 */
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { z } from 'zod'
import {
  MALFORMED_ADAPTERS,
  type MalformedAdapter,
} from '../gpu-host/adapters/test/support/malformed-adapters.ts'
import { adapterPaths } from '../gpu-host/adapters/test/support/vectors.ts'
import { EXIT_CODES } from '../scripts/lib/cli-error.ts'
import { deployedVersion, modelList } from '../scripts/lib/edge-replies.ts'
import { type Background, startBackground } from './support/background.ts'
import { ask, chatBody } from './support/inference.ts'
import { describeOnPools, ON_NODE_UNLESS_CHOSEN } from './support/on-edges.ts'
import { type Pool, startPool } from './support/pool.ts'
import { createPoolHome, type PoolHome } from './support/pool-home.ts'
import { ANSWER_TOKENS_MAX, adapterDirectory, casesOf, isRight } from './support/tasks.ts'
import { until } from './support/until.ts'

/** Refused over HTTP; some of them through the CLI as well. */
const ALSO_THROUGH_CLI = ['DoRA', 'a NaN', 'a pickle']
const REFUSED_MODEL = 'refused'
const refusal = z.strictObject({
  error: z.strictObject({
    message: z.string(),
    type: z.literal('invalid_request_error'),
    param: z.string().nullable(),
    code: z.string(),
  }),
})
const cliFailure = z.object({ error: z.object({ code: z.string(), message: z.string() }) })

describeOnPools('deploys under traffic', ON_NODE_UNLESS_CHOSEN, (edge) => {
  let home: PoolHome
  let uploads = ''
  let pool: Pool
  let background: Background

  beforeAll(async () => {
    home = await createPoolHome(edge)
    uploads = mkdtempSync(join(tmpdir(), 'nozzle-uploads-'))
    pool = await startPool(home)
  })
  afterAll(async () => {
    await pool?.stop()
    await home?.remove()
    rmSync(uploads, { recursive: true, force: true })
  })
  beforeEach(() => {
    background = startBackground(pool)
  })
  afterEach(async () => {
    await background.stop()
  })

  async function expectUndisturbed(): Promise<void> {
    // What was disturbed may be under way still.
    const answers = background.answers()
    await until('an answer after all that', () => (background.answers() > answers ? true : null))
    expect(await background.stop()).toEqual([])
  }

  /** An adapter of other bytes than any before, that answers as the example does. */
  function writeNewAdapter(): string {
    const adapter = join(uploads, 'new')
    cpSync(adapterDirectory('text-to-sql'), adapter, { recursive: true })
    const { configPath } = adapterPaths(adapter)
    writeFileSync(configPath, `${readFileSync(configPath, 'utf8')}\n`)
    return adapter
  }

  function writeMalformed({ write }: MalformedAdapter): string {
    const adapter = join(uploads, 'malformed')
    rmSync(adapter, { recursive: true, force: true })
    mkdirSync(adapter)
    write(adapter, adapterDirectory('pii-redact'))
    return adapter
  }

  function upload(adapter: string): Promise<Response> {
    const { configPath, weightsPath } = adapterPaths(adapter)
    const form = new FormData()
    form.set('config', new Blob([readFileSync(configPath)]), 'adapter_config.json')
    form.set('weights', new Blob([readFileSync(weightsPath)]), 'adapter_model.safetensors')
    return fetch(`${pool.edgeUrl}/v1/tenants/demo/models/${REFUSED_MODEL}/versions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${pool.demoKey}` },
      body: form,
    })
  }

  /** Everything the host keeps of adapters: store, disk tier, uploads on their way. */
  function keptFiles(): string[] {
    const folders = ['store', join('host', 'adapters'), join('host', 'staging')]
    return folders.flatMap((folder) =>
      readdirSync(join(home.directory, folder), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(folder, entry.name)),
    )
  }

  it('serve a new model at once, from the same processes', async () => {
    const before = { children: pool.children(), epoch: (await pool.host()).epoch }
    const { exitCode, stdout, stderr } = await pool.nozzle(
      ...['deploy', writeNewAdapter(), '--model', 'fresh', '--json'],
    )
    expect(exitCode, stderr).toBe(0)
    const deployed = deployedVersion.parse(JSON.parse(stdout))
    expect(deployed).toMatchObject({ model: 'fresh', version: 1, rank: 16 })
    for (const example of casesOf('text-to-sql', 3)) {
      const reply = await ask({
        baseUrl: deployed.endpoint,
        apiKey: pool.demoKey,
        body: chatBody(example.prompt, ANSWER_TOKENS_MAX),
      })
      expect(reply).toMatchObject({ status: 200, error: null })
      expect(isRight(example, reply.text), reply.text).toBe(true)
    }
    expect({ children: pool.children(), epoch: (await pool.host()).epoch }).toEqual(before)
    await expectUndisturbed()
  })

  it('replace the version of a model from the next request on', async () => {
    const name = 'changing'
    const answer = async (): Promise<string> => {
      const [example] = casesOf('ticket-triage', 1)
      const baseUrl = `${pool.edgeUrl}/demo/${name}/v1`
      const body = chatBody(example?.prompt ?? '', ANSWER_TOKENS_MAX)
      return (await ask({ baseUrl, apiKey: pool.demoKey, body })).text
    }
    const versions = []
    const answers = []
    for (const task of ['text-to-sql', 'ticket-triage'] as const) {
      const deploy = ['deploy', adapterDirectory(task), '--model', name, '--json']
      const { stdout } = await pool.nozzle(...deploy)
      versions.push(deployedVersion.parse(JSON.parse(stdout)).version)
      answers.push(await answer())
    }
    expect(versions).toEqual([1, 2])
    const [example] = casesOf('ticket-triage', 1)
    expect(answers.map((text) => example !== undefined && isRight(example, text))).toEqual([
      false,
      true,
    ])
    await expectUndisturbed()
  })

  it(`refuse ${MALFORMED_ADAPTERS.length} malformed adapters by name and keep nothing`, async () => {
    const before = { files: keptFiles(), children: pool.children() }
    const wrong: string[] = []
    for (const malformed of MALFORMED_ADAPTERS) {
      const response = await upload(writeMalformed(malformed))
      const parsed = refusal.safeParse(await response.json())
      const { code, message = '', param } = parsed.data?.error ?? {}
      const isNamed = malformed.expected.test(message) && param !== null
      if (response.status !== 422 || code !== 'adapter_invalid' || !isNamed) {
        wrong.push(`${malformed.name}: ${response.status} ${code} ${param}: ${message}`)
      }
    }
    expect(wrong).toEqual([])
    expect(keptFiles()).toEqual(before.files)
    expect(pool.children()).toEqual(before.children)
    const listed = await pool.nozzle('model', 'ls', '--json')
    const names = modelList.parse(JSON.parse(listed.stdout)).data.map(({ name }) => name)
    expect(names).not.toContain(REFUSED_MODEL)
    const reply = await ask({
      baseUrl: `${pool.edgeUrl}/demo/${REFUSED_MODEL}/v1`,
      apiKey: pool.demoKey,
      body: chatBody('Hello', 4),
    })
    expect(reply).toMatchObject({ status: 404, error: { code: 'model_not_found' } })
    await expectUndisturbed()
  })

  it.each(ALSO_THROUGH_CLI)('are refused by the CLI with its exit code: %s', async (name) => {
    const malformed =
      MALFORMED_ADAPTERS.find((adapter) => adapter.name === name) ?? expect.fail('no such adapter')
    const { exitCode, stdout, stderr } = await pool.nozzle(
      ...['deploy', writeMalformed(malformed), '--model', REFUSED_MODEL, '--json'],
    )
    expect(exitCode).toBe(EXIT_CODES.refused)
    expect(stdout).toBe('')
    const failure = cliFailure.parse(JSON.parse(stderr.trimEnd().split('\n').at(-1) ?? ''))
    expect(failure.error.code).toBe('refused')
    expect(failure.error.message).toMatch(malformed.expected)
    await expectUndisturbed()
  })
})
