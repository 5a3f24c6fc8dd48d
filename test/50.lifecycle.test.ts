/**
 * What happens around requests: stops that finish what runs, kills that leave nothing behind, one
 * pool per data directory, keys that end, models that go.
 */
import { once } from 'node:events'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { EXIT_CODES } from '../scripts/lib/cli-error.ts'
import { readRunning } from '../scripts/lib/data-dir.ts'
import { createdKey, usageReport } from '../scripts/lib/edge-replies.ts'
import { commandOf } from '../scripts/up/leftover-children.ts'
import { readLedger, untilSettled } from './support/books.ts'
import { ask, chatBody, type Reply, requireStream } from './support/inference.ts'
import { runTask } from './support/nozzle.ts'
import { describeOnPools, ON_NODE_UNLESS_CHOSEN } from './support/on-edges.ts'
import { type Pool, startPool } from './support/pool.ts'
import { createPoolHome, type PoolHome } from './support/pool-home.ts'
import { killLivingChildren, livingChildren } from './support/processes.ts'
import {
  ANSWER_TOKENS_MAX,
  adapterDirectory,
  caseOf,
  EXAMPLE_TASKS,
  isRight,
} from './support/tasks.ts'
import { chatOf } from './support/traffic.ts'
import { until } from './support/until.ts'

const STREAM_TOKENS = 60
/** The promise; edges elsewhere may take so long, see edge/limits.ts. */
const REVOKED_WITHIN_MS = 10_000
const REMOVED = 'text-to-sql'

describeOnPools('a pool', ON_NODE_UNLESS_CHOSEN, (edge) => {
  let home: PoolHome
  let pool: Pool

  beforeAll(async () => {
    home = await createPoolHome(edge)
    pool = await startPool(home)
  })
  afterAll(async () => {
    await pool?.stop()
    if (pool) killLivingChildren(pool.dir)
    await home?.remove()
  })

  function askWith(apiKey: string, model: string, maxTokens = 4): Promise<Reply> {
    const baseUrl = `${pool.edgeUrl}/demo/${model}/v1`
    return ask({ baseUrl, apiKey, body: chatBody('Say hello.', maxTokens) })
  }
  const openStreams = () =>
    Promise.all(
      EXAMPLE_TASKS.map((task, index) =>
        requireStream({
          baseUrl: `${pool.edgeUrl}/demo/${task}/v1`,
          apiKey: pool.demoKey,
          body: chatOf(index, STREAM_TOKENS, { ignore_eos: true, logprobs: true }),
        }),
      ),
    )
  async function expectToServe(): Promise<void> {
    const example = caseOf('pii-redact')
    const baseUrl = `${pool.edgeUrl}/demo/pii-redact/v1`
    const body = chatBody(example.prompt, ANSWER_TOKENS_MAX)
    const reply = await ask({ baseUrl, apiKey: pool.demoKey, body })
    expect(isRight(example, reply.text), reply.text).toBe(true)
  }

  it('is refused a second time on the same data directory, and goes on', async () => {
    const { exitCode, stdout, stderr } = await runTask(['start', '--json'], home.env)
    expect(exitCode).toBe(EXIT_CODES.refused)
    expect(stdout).toBe('')
    expect(stderr).toContain('already runs')
    expect(stderr).toContain('NOZZLE_DATA_DIR')
    await expectToServe()
  })

  it('takes a key until it is revoked', async () => {
    const { stdout } = await pool.nozzle('key', 'create', '--name', 'short-lived', '--json')
    const { id, key } = createdKey.parse(JSON.parse(stdout))
    expect(await askWith(key, 'pii-redact')).toMatchObject({ status: 200 })
    expect((await pool.nozzle('key', 'revoke', id)).exitCode).toBe(0)
    const refused = await until(
      'the revoked key is refused',
      async () => {
        const reply = await askWith(key, 'pii-redact')
        return reply.status === 200 ? null : reply
      },
      REVOKED_WITHIN_MS,
    )
    expect(refused).toMatchObject({ status: 401, error: { code: 'invalid_api_key' } })
    expect(await askWith(pool.demoKey, 'pii-redact')).toMatchObject({ status: 200 })
  })

  it('shows what was used, and serves a removed model no more', async () => {
    const model = REMOVED
    const { usage } = await askWith(pool.demoKey, model)
    await untilSettled(pool)
    const shown = async () => {
      const { exitCode, stdout, stderr } = await pool.nozzle('usage', '--model', model, '--json')
      expect(exitCode, stderr).toBe(0)
      return usageReport.parse(JSON.parse(stdout))
    }
    const report = await shown()
    expect(report.data).toMatchObject([
      { model, requests: 1, completion_tokens: usage?.completion_tokens },
    ])
    expect((await pool.nozzle('model', 'rm', model)).exitCode).toBe(0)
    expect(await askWith(pool.demoKey, model)).toMatchObject({
      status: 404,
      error: { code: 'model_not_found' },
    })
    expect((await pool.nozzle('model', 'rm', model)).exitCode).toBe(EXIT_CODES.not_found)
    expect((await shown()).data).toEqual(report.data)
  })

  it('finishes running streams on SIGTERM, bills them and ends well', async () => {
    expect(await pool.stop()).toBe(0)
    pool = await startPool(home)
    // The example that was removed stays so over a start, until somebody deploys it.
    expect(await askWith(pool.demoKey, REMOVED)).toMatchObject({ status: 404 })
    const { exitCode, stderr } = await pool.nozzle(
      ...['deploy', adapterDirectory(REMOVED), '--model', REMOVED],
    )
    expect(exitCode, stderr).toBe(0)
    const streams = await openStreams()
    await Promise.all(streams.map((stream) => stream.tokens(2)))
    const gone = once(pool.supervisor, 'exit')
    pool.supervisor.kill('SIGTERM')
    const replies = await Promise.all(streams.map((stream) => stream.reply))
    for (const reply of replies) {
      expect(reply).toMatchObject({ error: null, finish: 'length' })
      expect(reply.logprobs).toHaveLength(STREAM_TOKENS)
      expect(reply.usage?.completion_tokens).toBe(STREAM_TOKENS)
    }
    expect(await gone).toEqual([0, null])
    expect(livingChildren(pool.dir)).toEqual([])
    expect(readRunning(pool.dir)).toBeNull()

    pool = await startPool(home)
    const billed = await readLedger(pool, ['demo'])
    for (const { requestId, usage } of replies) {
      const row = billed.find((event) => event.requestId === requestId)
      expect(row?.completionTokens).toBe(usage?.completion_tokens)
      expect(row?.promptTokens).toBe(usage?.prompt_tokens)
    }
  })

  it('leaves no process behind when its supervisor is killed, and starts again', async () => {
    const { demoKey } = pool
    const children = Object.values(pool.children())
    const streams = await openStreams()
    await Promise.all(streams.map((stream) => stream.tokens(2)))
    pool.supervisor.kill('SIGKILL')
    await Promise.allSettled(streams.map((stream) => stream.reply))
    await until('the children to go', () =>
      children.every((pid) => commandOf(pid) === '') ? true : null,
    )

    pool = await startPool(home)
    expect(pool.demoKey).toBe(demoKey)
    await expectToServe()
    await untilSettled(pool)
    const billed = await readLedger(pool, ['demo'])
    for (const { requestId } of streams) {
      expect(billed.filter((row) => row.requestId === requestId)).toHaveLength(1)
    }
  })
})
