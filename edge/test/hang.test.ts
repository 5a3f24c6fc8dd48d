/**
 * A host process that is stopped in the middle of its work, as a hang does, and wakes when its
 * requests have been answered elsewhere. Signals are real, and so is everything but the model.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { listUsageEvents } from '#db/queries/usage.ts'
import { HOST_ROUTES } from '#protocol'
import { AnswerTally } from './support/answer-tally.ts'
import type { TestTenant } from './support/pool-client.ts'
import { expectedReply, POOL_SECRET, TestPool, until } from './support/test-pool.ts'

const TOKENS = 300
/** More than the process has sequences, so that some wait in its queue. */
const WHOLE_REPLIES = 9
const STREAMS = 3
/** All of them arrive before the first is done, on a busy machine too. */
const STEP_MS = '10'
/** Longer than a gap that the host takes for ordinary. */
const STOPPED_MS_MIN = 1300

let pool: TestPool
let tenant: TestTenant
let child: ChildProcess
const directory = mkdtempSync(join(tmpdir(), 'nozzle-hang-'))

beforeAll(async () => {
  // Longer than the other host needs to join.
  const patience = { doubtMs: 4000, probeMs: 750, silenceMs: 6000, headersMs: 8000 }
  pool = await TestPool.start({ patience })
  tenant = await pool.addTenant()
  const script = '../../gpu-host/test/support/fake-host-process.ts'
  child = spawn(process.execPath, [join(import.meta.dirname, script), STEP_MS], {
    stdio: 'ignore',
    env: {
      NOZZLE_POOL_SECRET: POOL_SECRET,
      NOZZLE_DATA_DIR: directory,
      NOZZLE_BASE_MODEL_PATH: 'none',
      NOZZLE_BASE_MODEL_NAME: 'fake-base',
      NOZZLE_HOST_ID: 'hst_hangs',
      NOZZLE_EDGE_URL: pool.url,
    },
  })
  await until(() => expect(hangingUrl()).toMatch(/^http/))
})
afterAll(async () => {
  child.kill('SIGCONT')
  child.kill('SIGKILL')
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  await pool.stop()
  rmSync(directory, { recursive: true, force: true })
})

const hangingUrl = () =>
  pool.deps.pool.known().find(({ host_id }) => host_id === 'hst_hangs')?.url ?? ''

async function countOf(name: string): Promise<number> {
  const text = await (await fetch(hangingUrl() + HOST_ROUTES.metrics)).text()
  const line = text.split('\n').find((each) => each.startsWith(`${name} `))
  return Number(line?.split(' ')[1] ?? 0)
}
const drawnTokens = () => countOf('nozzle_tokens_total{kind="completion"}')

function ask(stream: boolean): Promise<Response> {
  return pool.call('POST', '/v1/chat/completions', tenant.key, {
    model: 'fake-base',
    messages: [{ role: 'user', content: 'hello' }],
    max_tokens: TOKENS,
    temperature: 0,
    stream,
  })
}

/** What a stream gave before it broke off. */
async function readBroken(response: Response) {
  const text = await response.text()
  expect(text).toContain('"code":"host_failed"')
  const tally = new AnswerTally(TOKENS)
  tally.take(text.slice(0, text.lastIndexOf('data: {"error"')))
  return { id: response.headers.get('x-request-id'), tokens: tally.tokens }
}

async function readWhole(response: Response) {
  const reply = (await response.json()) as { choices: { message: { content: string } }[] }
  expect(reply.choices[0]?.message.content).toBe(expectedReply(null, 'hello', TOKENS))
  return { id: response.headers.get('x-request-id'), tokens: TOKENS }
}

describe('a host that was stopped and wakes', () => {
  it('charges nothing beside the host that took over, and begins no step for who is gone', async () => {
    const replies = [
      ...Array.from({ length: STREAMS }, () => ask(true).then(readBroken)),
      ...Array.from({ length: WHOLE_REPLIES }, () => ask(false).then(readWhole)),
    ]
    const drawnAtStop = await until(async () => {
      // Not before it runs as many as it can.
      expect(await countOf('nozzle_queue_depth')).toBeGreaterThan(0)
      const drawn = await drawnTokens()
      expect(drawn).toBeGreaterThan(80)
      return drawn
    })
    child.kill('SIGSTOP')
    const stoppedMs = performance.now()
    // Only now, so that all of it began on the one that hangs.
    await pool.addHost({ hostId: 'hst_lives' })
    const got = await Promise.all(replies)
    await sleep(Math.max(0, STOPPED_MS_MIN - (performance.now() - stoppedMs)))
    child.kill('SIGCONT')

    const events = await until(async () => {
      const rows = await listUsageEvents(pool.database.db, { tenantId: tenant.id, limit: 100 })
      const ids = new Set(rows.map(({ requestId }) => requestId))
      expect(ids.size).toBe(STREAMS + WHOLE_REPLIES)
      // What was answered elsewhere is reported from there …
      expect(rows.filter(({ hostId }) => hostId === 'hst_lives')).toHaveLength(WHOLE_REPLIES)
      // … and what ran on the stopped host by that one: eight, one of them kept for other tenants.
      expect(rows.filter(({ hostId }) => hostId === 'hst_hangs').length).toBeGreaterThanOrEqual(7)
      return rows
    })
    for (const { id, tokens } of got) {
      const charged = events.filter((row) => row.requestId === id && !row.isSuperseded)
      expect(charged).toHaveLength(1)
      const billed = charged[0]?.completionTokens ?? 0
      expect(billed).toBeGreaterThanOrEqual(tokens)
      expect(billed).toBeLessThanOrEqual(tokens + (tokens === TOKENS ? 0 : 1))
    }
    // No step was begun for them: those that ran on would have drawn all that was left.
    const left = (STREAMS + WHOLE_REPLIES) * TOKENS - drawnAtStop
    expect((await drawnTokens()) - drawnAtStop).toBeLessThan(left / 4)
  })
})
