import { sql } from 'drizzle-orm'
import { describe, expect, it } from 'vitest'
import type { Db } from '../database.ts'
import { addAdapterVersion, addCanaryVersion } from '../queries/adapter-versions.ts'
import { changeDeployment, type DeploymentChange } from '../queries/deployments.ts'
import { findModel, listModels, removeModel, resolveModel } from '../queries/models.ts'
import { describeOnEachDatabase } from './support/database.ts'
import { addTenant, createAdapter } from './support/records.ts'

const digestOf = (version: number) => `sha256:${String(version).repeat(64)}`

async function addModel(db: Db, versions: number) {
  const tenant = await addTenant(db)
  const adapter = createAdapter(tenant.id)
  for (let version = 1; version <= versions; version++) {
    await addAdapterVersion(db, { ...adapter, digest: digestOf(version) })
  }
  const key = { tenantId: tenant.id, name: adapter.modelName }
  const reference = { tenantName: tenant.name, modelName: adapter.modelName }
  const find = async () => {
    const model = await findModel(db, key)
    if (model === null) throw new Error('no model')
    return model
  }
  const change = async (change: Partial<DeploymentChange> & { main: number }) => {
    const { id, deploymentId } = await find()
    const decided = { modelId: id, decidedOn: deploymentId, canary: null, replaces: null }
    return changeDeployment(db, { ...decided, ...change })
  }
  return {
    tenant,
    adapter,
    key,
    reference,
    find,
    change,
    resolve: () => resolveModel(db, reference),
  }
}

describeOnEachDatabase((db) => {
  describe('addCanaryVersion', () => {
    it('numbers the version and serves it beside the main one', async () => {
      const { adapter, find, resolve, tenant } = await addModel(db(), 2)
      const canary = { ...adapter, digest: digestOf(3), weight: 10 }
      const added = await addCanaryVersion(db(), canary)
      expect(added).toMatchObject({ version: 3 })
      const lane = { version: 3, digest: digestOf(3), weight: 10, deployedAt: expect.any(Date) }
      expect(await find()).toMatchObject({ version: 2, versions: 3, canary: lane })
      expect(await listModels(db(), tenant.id)).toMatchObject([{ version: 2, canary: lane }])
      const served = { ...lane, versionId: added?.versionId, baseModel: adapter.baseModel }
      expect(await resolve()).toMatchObject({ version: 2, canary: served })
    })

    it('takes the place of the canary that runs', async () => {
      const { adapter, find } = await addModel(db(), 1)
      await addCanaryVersion(db(), { ...adapter, weight: 10 })
      await addCanaryVersion(db(), { ...adapter, weight: 20 })
      expect(await find()).toMatchObject({ version: 1, canary: { version: 3, weight: 20 } })
    })

    it('needs a model', async () => {
      const tenant = await addTenant(db())
      const canary = { ...createAdapter(tenant.id), weight: 10 }
      expect(await addCanaryVersion(db(), canary)).toBeNull()
      expect(await listModels(db(), tenant.id)).toEqual([])
    })

    it('ends with the next deploy for all requests', async () => {
      const { adapter, find } = await addModel(db(), 1)
      await addCanaryVersion(db(), { ...adapter, weight: 10 })
      await addAdapterVersion(db(), adapter)
      expect(await find()).toMatchObject({ version: 3, replaced: 1, canary: null })
    })
  })

  describe('resolveModel', () => {
    it('knows no canary for a version that was asked for', async () => {
      const { adapter, reference } = await addModel(db(), 1)
      await addCanaryVersion(db(), { ...adapter, weight: 10 })
      for (const version of [1, 2]) {
        const model = await resolveModel(db(), { ...reference, version })
        expect(model).toMatchObject({ version, canary: null })
      }
    })
  })

  describe('changeDeployment', () => {
    it('moves both lanes, and notes what a version replaced once', async () => {
      const { adapter, find, change } = await addModel(db(), 1)
      await addCanaryVersion(db(), { ...adapter, weight: 10 })
      const first = await find()
      expect(await change({ main: 1, canary: { version: 2, weight: 60 } })).toBe(true)
      const split = await find()
      expect(split).toMatchObject({ version: 1, canary: { version: 2, weight: 60 } })
      expect(split.deployedAt).toEqual(first.deployedAt)
      expect(split.canary?.deployedAt).toEqual(first.canary?.deployedAt)
      expect(await change({ main: 2, replaces: 1 })).toBe(true)
      expect(await find()).toMatchObject({ version: 2, replaced: 1, canary: null })
      expect(await change({ main: 1 })).toBe(true)
      expect(await change({ main: 2, replaces: 7 })).toBe(true)
      expect(await find()).toMatchObject({ version: 2, replaced: 1 })
    })

    it('misses when the model was changed since, and for versions that are not there', async () => {
      const { adapter, find, change } = await addModel(db(), 2)
      const { deploymentId } = await find()
      await addCanaryVersion(db(), { ...adapter, weight: 10 })
      expect(await change({ main: 1, decidedOn: deploymentId })).toBe(false)
      expect(await change({ main: 9 })).toBe(false)
      expect(await change({ main: 1, canary: { version: 9, weight: 10 } })).toBe(false)
      expect(await find()).toMatchObject({ version: 2, canary: { version: 3, weight: 10 } })
    })

    it('lets one of many changes of the same moment through', async () => {
      const { find, change } = await addModel(db(), 3)
      const { deploymentId: decidedOn } = await find()
      const changes = Array.from({ length: 12 }, (_, i) => change({ main: 1 + (i % 3), decidedOn }))
      const outcomes = await Promise.all(changes)
      expect(outcomes.filter(Boolean)).toHaveLength(1)
    })

    it("never takes another model's version", async () => {
      const [mine, theirs] = [await addModel(db(), 1), await addModel(db(), 4)]
      expect(await mine.change({ main: 4 })).toBe(false)
      expect(await mine.change({ main: 1, canary: { version: 4, weight: 50 } })).toBe(false)
      expect(await theirs.find()).toMatchObject({ version: 4, canary: null })
    })

    it('leaves a removed model alone', async () => {
      const { key, change, resolve, adapter } = await addModel(db(), 2)
      const stale = change({ main: 1 })
      await stale
      await removeModel(db(), key)
      expect(await resolve()).toBeNull()
      expect(await addCanaryVersion(db(), { ...adapter, weight: 1 })).toBeNull()
    })
  })

  it('what a version replaced is append-only', async () => {
    await addModel(db(), 2)
    await expect(db().execute(sql`update replacements set replaced = 9`)).rejects.toThrow()
  })
})
