/** Each suite on every database; periods of their own keep the tests apart. */
import { describe, expect, it } from 'vitest'
import { createId } from '../ids.ts'
import { addAdapterVersion } from '../queries/adapter-versions.ts'
import { countHostsSeen, listModelUse, listUseRuns } from '../queries/model-use.ts'
import { removeModel } from '../queries/models.ts'
import { recordUsageEvents } from '../queries/usage.ts'
import { describeOnEachDatabase } from './support/database.ts'
import { addTenant, createAdapter, createEvent, uniqueName } from './support/records.ts'

/** Of the time that models deployed by a test exist. */
const NOW = { start: new Date(Date.now() - 3_600_000), end: new Date(Date.now() + 3_600_000) }
const all = { after: null, limit: 1000 }

describeOnEachDatabase((db) => {
  const useOf = async (key: string) =>
    (await listModelUse(db(), { ...NOW, ...all })).find((use) => use.key === key)

  describe('listModelUse', () => {
    it('says what a model took, every attempt included, and what all its versions store', async () => {
      const tenant = await addTenant(db())
      const modelName = uniqueName('bot')
      const adapter = createAdapter(tenant.id, { modelName, packBytes: 1000 })
      const { modelId } = await addAdapterVersion(db(), adapter)
      await addAdapterVersion(db(), { ...adapter, packBytes: 500 })
      const at = { ended_at: new Date().toISOString() }
      const took = { model_id: modelId, model: `${modelName}@2`, gpu_us: 700, swap_us: 30, ...at }
      const event = createEvent(tenant.id, took)
      await recordUsageEvents(db(), [event, { ...event, attempt: 2, gpu_us: 300 }])
      await recordUsageEvents(db(), [createEvent(tenant.id, { ...took, model: modelName })])
      expect(await useOf(modelId)).toMatchObject({
        tenant: tenant.name,
        model: modelName,
        requests: 2,
        gpuUs: 1700,
        swapUs: 90,
        storedBytes: 1500,
        existsTo: NOW.end,
      })
    })

    it('names models that nobody used, from their deploy to their removal', async () => {
      const tenant = await addTenant(db())
      const adapter = createAdapter(tenant.id, { modelName: uniqueName('idle') })
      const { modelId } = await addAdapterVersion(db(), adapter)
      const use = await useOf(modelId)
      expect(use).toMatchObject({ requests: 0, gpuUs: 0, existsTo: NOW.end })
      expect(use?.existsFrom.getTime()).toBeGreaterThan(NOW.start.getTime())
      expect(use?.firstAt).toEqual(use?.existsFrom)
      await removeModel(db(), { tenantId: tenant.id, name: adapter.modelName })
      expect((await useOf(modelId))?.existsTo.getTime()).toBeLessThan(NOW.end.getTime())
      const later = { start: NOW.end, end: new Date(NOW.end.getTime() + 1) }
      const keys = (await listModelUse(db(), { ...later, ...all })).map(({ key }) => key)
      expect(keys).not.toContain(modelId)
    })

    it('counts a base model once, whoever uses it, and pages by key', async () => {
      const base_model = uniqueName('base')
      const at = { ended_at: new Date().toISOString() }
      const alone = {
        base_model,
        model: base_model,
        model_id: null,
        adapter_version_id: null,
        ...at,
      }
      const firstMs = NOW.start.getTime() + 5
      await recordUsageEvents(db(), [
        createEvent((await addTenant(db())).id, alone),
        createEvent((await addTenant(db())).id, {
          ...alone,
          request_id: createId('req', firstMs),
        }),
      ])
      expect(await useOf(`base/${base_model}`)).toMatchObject({
        tenant: null,
        model: base_model,
        requests: 2,
        existsFrom: NOW.start,
        firstAt: new Date(firstMs),
      })
      const keys: string[] = []
      for (let after: string | null = null; ; after = keys.at(-1) ?? null) {
        const page = await listModelUse(db(), { ...NOW, after, limit: 2 })
        if (page.length === 0) break
        keys.push(...page.map(({ key }) => key))
      }
      const whole = await listModelUse(db(), { ...NOW, ...all })
      expect(keys).toEqual(whole.map(({ key }) => key))
      expect(keys.length).toBeGreaterThan(2)
    })
  })

  describe('listUseRuns', () => {
    it('tells requests apart that may wait for a start, and joins those behind them', async () => {
      const model_id = createId('mod')
      const at = (s: number) => Date.UTC(2026, 9, 7, 12) + s * 1000
      const ask = (s: number, lasts: number, change = {}) =>
        createEvent(createId('ten'), {
          model_id,
          request_id: createId('req', at(s)),
          started_at: new Date(at(s)).toISOString(),
          ended_at: new Date(at(s + lasts)).toISOString(),
          queue_us: 1_000_000,
          ...change,
        })
      const retried = ask(500, 5)
      await recordUsageEvents(db(), [
        ...[ask(0, 3), ask(5, 2), ask(20, 100), ask(30, 4), ask(125, 3), retried],
        { ...retried, attempt: 2, ended_at: new Date(at(511)).toISOString() },
      ])
      const period = { start: new Date(at(0)), end: new Date(at(1000)) }
      const wish = { ...period, keys: [model_id, 'base/none'], coldStartMs: 10_000 }
      const runs = await listUseRuns(db(), { ...wish, keepWarmMs: 15_000 })
      expect(runs.get('base/none')).toEqual([])
      expect(runs.get(model_id)).toEqual([
        { startMs: at(0), endMs: at(2), requests: 1 },
        { startMs: at(5), endMs: at(6), requests: 1 },
        { startMs: at(20), endMs: at(127), requests: 3 },
        { startMs: at(500), endMs: at(510), requests: 1 },
      ])
      expect(await countHostsSeen(db(), period)).toBe(1)
    })
  })
})
