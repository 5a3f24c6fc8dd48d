import { sql } from 'drizzle-orm'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Database, openDatabase } from '#db/client.ts'
import { createId } from '#db/ids.ts'
import { recordUsageEvents } from '#db/queries/usage.ts'
import { usageTotals } from '#db/queries/usage-totals.ts'
import { addBaseModel, createEvent } from '../../db/test/support/records.ts'
import { createRandom } from '../../gpu-host/test/support/random.ts'
import { createApiKey } from '../auth/api-key.ts'
import { sendCloudEvents } from '../cloud-events/send-cloud-events.ts'
import { readEdgeConfig } from '../config.ts'
import { createDeps, type Deps } from '../deps.ts'
import { EventReceiver } from './support/event-receiver.ts'
import { edgeEnvironment } from './support/test-pool.ts'

let database: Database
let receiver: EventReceiver
let url: string
let deps: Deps
const logs: { message: string; fields: object }[] = []
let tenantId = ''
beforeAll(async () => {
  database = await openDatabase('pglite:memory')
  await database.migrate()
})
afterAll(() => database.close())
/** What the tests before left is taken already. */
beforeEach(async () => {
  receiver = new EventReceiver()
  url = await receiver.start()
  await database.db.execute(sql`delete from event_dead_letters`)
  deps = await createEdge()
  expect(await run()).toBeNull()
  deps = await createEdge()
  receiver.taken.clear()
  receiver.answers.length = 0
  logs.length = 0
  tenantId = createId('ten')
})
afterEach(() => receiver.stop())

async function createEdge(change: Record<string, string> = {}): Promise<Deps> {
  const env = {
    ...edgeEnvironment(await createApiKey()),
    NOZZLE_CLOUDEVENTS_URL: url,
    NOZZLE_CLOUDEVENTS_TOKEN: 'of good news',
    ...change,
  }
  return createDeps({
    config: readEdgeConfig(env),
    db: database.db,
    fetch: globalThis.fetch,
    log: (_level, message, fields) => logs.push({ message, fields: fields ?? {} }),
    nowMs: Date.now,
  })
}

/** `count` requests of one tenant; every third was tried twice. */
async function addUsage(count: number): Promise<string[]> {
  const base_model = await addBaseModel(database.db)
  const events = Array.from({ length: count }, (_, i) =>
    createEvent(tenantId, { base_model, prompt_tokens: 50 + i, host_id: `hst_${i % 3}` }),
  )
  await recordUsageEvents(database.db, events)
  const again = events.filter((_, i) => i % 3 === 0)
  await recordUsageEvents(
    database.db,
    again.map((event) => ({ ...event, attempt: 2, completion_tokens: 1 })),
  )
  return events.map(({ request_id }) => request_id)
}

/** As the job runner does it, but for the waiting. */
async function run(edge = deps): Promise<Error | null> {
  await database.db.execute(sql`update event_exports set retry_at = null`)
  return sendCloudEvents(edge).then(
    () => null,
    (error: Error) => error,
  )
}

/** What a sum over everything that was taken says. */
function sumTaken() {
  const events = [...receiver.taken.values()].map(({ data }) => data)
  const sum = (field: 'requests' | 'prompt_tokens' | 'completion_tokens' | 'gpu_us') =>
    events.reduce((total, data) => total + data[field], 0)
  return {
    requests: sum('requests'),
    promptTokens: sum('prompt_tokens'),
    completionTokens: sum('completion_tokens'),
    gpuUs: sum('gpu_us'),
    costPusd: events.reduce((total, { cost_pusd }) => total + BigInt(cost_pusd), 0n),
  }
}

async function ledgerSums() {
  const period = { start: new Date(0), end: new Date(Date.UTC(2100, 0)) }
  const [sums] = await usageTotals(database.db, { tenantId, ...period })
  return sums
}

const metrics = (): string =>
  deps.metrics.toText({ hostsReady: 0, isDatabaseUp: true, clockOffsetMs: null })
const outcome = (name: string): string => `nozzle_edge_cloud_events_total{outcome="${name}"}`

describe('CloudEvents', () => {
  it('say of every charge and of every one taken back what it is, in order, once', async () => {
    const ids = await addUsage(9)
    expect(await run()).toBeNull()
    expect(receiver.taken.size).toBe(9 + 3 + 3)
    const [first] = receiver.taken.values()
    expect(first).toMatchObject({
      id: `${ids.sort()[0]}/1/usage`,
      subject: tenantId,
      source: expect.stringMatching(/^host\/hst_\d$/),
      time: expect.stringMatching(/Z$/),
      data: { kind: 'usage', attempt: 1, completion_tokens: 25 },
    })
    expect(await ledgerSums()).toMatchObject(sumTaken())
    expect(await run()).toBeNull()
    expect(receiver.answers).toEqual([204])
    expect(metrics()).toContain(`${outcome('sent')} 15`)
  })

  it('arrive all of them whatever fails on the way, and sum to the ledger', async () => {
    const random = createRandom(7)
    receiver.answer = (events) => {
      // A batch of a large receiver's size now and then finds it at its limit.
      if (events.length > 300 && random() < 0.3) return 413
      const dice = random()
      if (dice < 0.2) return 'lose'
      if (dice < 0.35) return 503
      return dice < 0.4 ? { status: 429, retryAfter: '7' } : 202
    }
    for (let round = 0; round < 6; round += 1) {
      await addUsage(300)
      await run()
    }
    for (let tries = 0; (await run()) !== null; tries += 1) expect(tries).toBeLessThan(100)
    expect(receiver.taken.size).toBe(6 * 500)
    expect(receiver.copies).toBeGreaterThan(0)
    expect(await ledgerSums()).toMatchObject(sumTaken())
    for (const answer of ['lose', 503, 413]) expect(receiver.answers).toContain(answer)
    expect((await database.db.execute(sql`select from event_dead_letters`)).rows).toEqual([])
  })

  it('go on behind one that is refused, which is given up loudly', async () => {
    const ids = await addUsage(40)
    const poison = `${ids[17]}/1/usage`
    receiver.answer = (events) => (events.some(({ id }) => id === poison) ? 422 : 204)
    expect(await run()).toBeNull()
    expect(receiver.taken.size).toBe(40 + 14 + 14 - 1)
    const letters = await database.db.execute<{ entry_id: string; reason: string }>(
      sql`select entry_id, reason from event_dead_letters`,
    )
    expect(letters.rows).toEqual([{ entry_id: poison, reason: '422: ' }])
    expect(logs).toContainEqual({
      message: 'the receiver of CloudEvents refuses an event: it is given up',
      fields: { entry_id: poison, reason: '422: ' },
    })
    expect(metrics()).toContain(`${outcome('dead')} 1`)
    await addUsage(2)
    expect(await run()).toBeNull()
    expect(receiver.taken.size).toBe(67 + 4)
  })

  it('wait for a receiver that refuses everything, before they are given up', async () => {
    await addUsage(2)
    receiver.answer = () => 400
    for (let tries = 0; tries < 6; tries += 1) {
      expect((await run())?.message).toContain('all is refused: 400')
    }
    receiver.answer = () => 204
    expect(await run()).toBeNull()
    expect(receiver.taken.size).toBe(4)
    await addUsage(1)
    receiver.answer = () => 400
    for (let tries = 0; tries < 6; tries += 1) expect(await run()).not.toBeNull()
    expect(await run()).toBeNull()
    expect((await database.db.execute(sql`select from event_dead_letters`)).rows).toHaveLength(3)
  })

  it('wait as long as the receiver asks, and longer each time', async () => {
    await addUsage(1)
    const waits: number[] = []
    for (const answer of [503, 503, 503, { status: 429, retryAfter: '100' }, 401]) {
      receiver.answer = () => answer
      expect((await run())?.name).toBe('ReceiverUnavailable')
      const { rows } = await database.db.execute<{ wait: number }>(
        sql`select round(extract(epoch from retry_at - now()))::integer as wait from event_exports`,
      )
      waits.push(rows[0]?.wait ?? 0)
      // Not yet time: nobody asks the receiver.
      await sendCloudEvents(deps)
    }
    expect(waits).toEqual([5, 10, 20, 100, 80])
    expect(receiver.answers).toHaveLength(5)
  })

  it('are sent by one edge at a time, and by another once that one has gone', async () => {
    await addUsage(30)
    const other = await createEdge()
    expect(await Promise.all([run(), run(other), run(), run(other)])).toEqual([
      ...[null, null, null, null],
    ])
    expect(receiver.copies).toBe(0)
    await addUsage(3)
    await database.db.execute(sql`update event_exports set claimed_by = 'an edge that died',
      claimed_until = now() + interval '1 minute'`)
    await run()
    expect(receiver.taken.size).toBe(50)
    await database.db.execute(sql`update event_exports set claimed_until = now() - interval '1 s'`)
    await run()
    expect(receiver.taken.size).toBe(55)
  })

  it('are nobody’s business without a receiver', async () => {
    await addUsage(1)
    const { NOZZLE_CLOUDEVENTS_URL: _url, ...env } = {
      ...edgeEnvironment(await createApiKey()),
      NOZZLE_CLOUDEVENTS_URL: url,
    }
    await sendCloudEvents({ ...deps, config: readEdgeConfig(env) })
    expect(receiver.answers).toEqual([])
    expect(() => readEdgeConfig({ ...env, NOZZLE_CLOUDEVENTS_URL: 'ftp://x' })).toThrow(
      'NOZZLE_CLOUDEVENTS_URL',
    )
  })
})
