/** What the database joins into runs must not change what a replay of them finds. */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Database, openDatabase } from '#db'
import { createId } from '#db/ids.ts'
import { listUseRuns } from '#db/queries/model-use.ts'
import { recordUsageEvents } from '#db/queries/usage.ts'
import { replayScaleToZero } from '#db/savings/scale-to-zero.ts'
import { usageEvent } from '#protocol'

let database: Database
beforeAll(async () => {
  database = await openDatabase('pglite:memory')
  await database.migrate()
})
afterAll(() => database.close())

const BEGIN_MS = Date.UTC(2026, 10, 3)

function createEvent(modelId: string, startMs: number, lastsMs: number) {
  return usageEvent.parse({
    request_id: createId('req', startMs),
    tenant_id: 'ten_a',
    key_id: null,
    model: 'm',
    model_id: modelId,
    adapter_version_id: null,
    adapter_digest: null,
    base_model: 'base',
    price_version_id: null,
    host_id: 'hst_a',
    epoch: 1,
    prompt_tokens: 1,
    cached_prompt_tokens: 0,
    completion_tokens: 1,
    finish_reason: 'stop',
    gpu_us: 1,
    queue_us: 0,
    ttft_us: 1,
    swap_us: 0,
    adapter_source: 'slot',
    started_at: new Date(startMs).toISOString(),
    ended_at: new Date(startMs + lastsMs).toISOString(),
    source: 'engine',
  })
}

describe('runs of a model', () => {
  it('replay as its requests do, one by one', async () => {
    const asked = fc.record({ atMs: fc.nat(2000), lastsMs: fc.nat(120) })
    await fc.assert(
      fc.asyncProperty(
        fc.array(asked, { minLength: 1, maxLength: 30 }),
        fc.nat(300),
        fc.nat(300),
        async (all, coldStartMs, keepWarmMs) => {
          const modelId = createId('mod')
          const requests = all
            .map(({ atMs, lastsMs }) => ({ startMs: BEGIN_MS + atMs, lastsMs }))
            .sort((a, b) => a.startMs - b.startMs)
          const { db } = database
          await recordUsageEvents(
            db,
            requests.map(({ startMs, lastsMs }) => createEvent(modelId, startMs, lastsMs)),
          )
          const period = { start: new Date(BEGIN_MS), end: new Date(BEGIN_MS + 10_000) }
          const wish = { ...period, keys: [modelId], coldStartMs, keepWarmMs }
          const runs = (await listUseRuns(db, wish)).get(modelId) ?? []
          const machine = { coldStartMs, keepWarmMs, untilMs: BEGIN_MS + 10_000 }
          const single = requests.map(({ startMs, lastsMs }) => {
            return { startMs, endMs: startMs + lastsMs, requests: 1 }
          })
          expect(replayScaleToZero(runs, machine)).toEqual(replayScaleToZero(single, machine))
          expect(runs.reduce((sum, run) => sum + run.requests, 0)).toBe(requests.length)
        },
      ),
      { numRuns: 60 },
    )
  })
})
