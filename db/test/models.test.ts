import { describe, expect, it } from 'vitest'
import {
  addAdapterVersion,
  hasAdapter,
  listAdapterVersions,
  storedAdapters,
} from '../queries/adapter-versions.ts'
import { findModel, listModels, removeModel, resolveModel } from '../queries/models.ts'
import { describeOnEachDatabase } from './support/database.ts'
import { addTenant, createAdapter } from './support/records.ts'

const digestOf = (digit: string) => `sha256:${digit.repeat(64)}`

describeOnEachDatabase((db) => {
  describe('storedAdapters', () => {
    it('counts each pack of a tenant once, removed models too, and no other tenant', async () => {
      const [tenant, other] = [await addTenant(db()), await addTenant(db())]
      expect(await storedAdapters(db(), tenant.id)).toEqual({ bytes: 0, versions: 0 })
      const adapter = createAdapter(tenant.id)
      await addAdapterVersion(db(), adapter)
      await addAdapterVersion(db(), { ...adapter, modelName: 'again' })
      await addAdapterVersion(db(), { ...adapter, digest: digestOf('d'), packBytes: 5 })
      await addAdapterVersion(db(), { ...createAdapter(other.id), packBytes: 77 })
      await removeModel(db(), { tenantId: tenant.id, name: adapter.modelName })
      const expected = { bytes: adapter.packBytes + 5, versions: 3 }
      expect(await storedAdapters(db(), tenant.id)).toEqual(expected)
    })
  })

  describe('addAdapterVersion', () => {
    it('creates the model, then numbers versions and deploys the newest', async () => {
      const tenant = await addTenant(db())
      const adapter = createAdapter(tenant.id)
      const first = await addAdapterVersion(db(), adapter)
      const second = await addAdapterVersion(db(), { ...adapter, digest: digestOf('c'), rank: 8 })
      expect(first).toEqual({
        modelId: expect.stringMatching(/^mod_/),
        versionId: expect.stringMatching(/^ver_/),
        version: 1,
      })
      expect(second).toMatchObject({ modelId: first.modelId, version: 2 })
      expect(await listAdapterVersions(db(), first.modelId)).toMatchObject([
        { id: second.versionId, tenantId: tenant.id, version: 2, digest: digestOf('c'), rank: 8 },
        {
          id: first.versionId,
          version: 1,
          digest: adapter.digest,
          baseModel: adapter.baseModel,
          baseDigest: adapter.baseDigest,
          rank: 16,
          alpha: 32.5,
          useRslora: false,
          targetModules: ['q_proj', 'v_proj'],
          tensors: 120,
          packBytes: 9_800_000,
        },
      ])
      expect(await findModel(db(), { tenantId: tenant.id, name: adapter.modelName })).toMatchObject(
        {
          id: first.modelId,
          versions: 2,
          version: 2,
          versionId: second.versionId,
          digest: digestOf('c'),
        },
      )
    })

    it('numbers deploys of the same moment without a gap or a double', async () => {
      const tenant = await addTenant(db())
      const adapter = createAdapter(tenant.id)
      const deploys = Array.from({ length: 24 }, () => addAdapterVersion(db(), adapter))
      const versions = await Promise.all(deploys)
      const numbers = versions.map((row) => row.version).toSorted((a, b) => a - b)
      expect(numbers).toEqual(Array.from({ length: 24 }, (_, index) => index + 1))
      expect(new Set(versions.map((row) => row.modelId)).size).toBe(1)
      const reference = { tenantName: tenant.name, modelName: adapter.modelName }
      const newest = versions.find((row) => row.version === 24)
      expect(await resolveModel(db(), reference)).toMatchObject({
        version: 24,
        versionId: newest?.versionId,
      })
      expect(await listModels(db(), tenant.id)).toHaveLength(1)
    })

    it('refuses a tenant that does not exist, and leaves nothing behind', async () => {
      const adapter = createAdapter('ten_unknown')
      await expect(addAdapterVersion(db(), adapter)).rejects.toThrow()
      expect(await listModels(db(), 'ten_unknown')).toEqual([])
    })
  })

  describe('resolveModel', () => {
    it('gives the deployed version, or the one that is asked for', async () => {
      const tenant = await addTenant(db())
      const adapter = createAdapter(tenant.id)
      const first = await addAdapterVersion(db(), adapter)
      await addAdapterVersion(db(), { ...adapter, digest: digestOf('d') })
      const reference = { tenantName: tenant.name, modelName: adapter.modelName }
      expect(await resolveModel(db(), { ...reference, version: null })).toMatchObject({
        version: 2,
        digest: digestOf('d'),
      })
      expect(await resolveModel(db(), { ...reference, version: 1 })).toEqual({
        tenantId: tenant.id,
        tenantName: tenant.name,
        tenantWeight: 1,
        modelId: first.modelId,
        modelName: adapter.modelName,
        versionId: first.versionId,
        version: 1,
        digest: adapter.digest,
        baseModel: adapter.baseModel,
        packBytes: adapter.packBytes,
        canary: null,
      })
    })

    it('gives null for what does not exist', async () => {
      const tenant = await addTenant(db())
      await addAdapterVersion(db(), createAdapter(tenant.id))
      const reference = { tenantName: tenant.name, modelName: 'support-bot' }
      expect(await resolveModel(db(), { ...reference, version: 3 })).toBeNull()
      expect(await resolveModel(db(), { ...reference, modelName: 'support' })).toBeNull()
      expect(await resolveModel(db(), { ...reference, tenantName: 'nobody' })).toBeNull()
    })
  })

  describe('removeModel', () => {
    it('hides the model with all its versions and frees its name for another', async () => {
      const tenant = await addTenant(db())
      const adapter = createAdapter(tenant.id)
      const key = { tenantId: tenant.id, name: adapter.modelName }
      const reference = { tenantName: tenant.name, modelName: adapter.modelName }
      const old = await addAdapterVersion(db(), adapter)
      expect(await removeModel(db(), key)).toBe(true)
      expect(await removeModel(db(), key)).toBe(false)
      expect(await resolveModel(db(), reference)).toBeNull()
      expect(await resolveModel(db(), { ...reference, version: 1 })).toBeNull()
      expect(await findModel(db(), key)).toBeNull()
      expect(await listModels(db(), tenant.id)).toEqual([])
      const next = await addAdapterVersion(db(), { ...adapter, digest: digestOf('e') })
      expect(next.version).toBe(1)
      expect(next.modelId).not.toBe(old.modelId)
      expect(await resolveModel(db(), reference)).toMatchObject({ digest: digestOf('e') })
    })
  })

  it("never shows or changes another tenant's models", async () => {
    const [mine, theirs] = [await addTenant(db()), await addTenant(db())]
    const own = await addAdapterVersion(db(), createAdapter(theirs.id))
    const key = { tenantId: mine.id, name: 'support-bot' }
    expect(await listModels(db(), mine.id)).toEqual([])
    expect(await findModel(db(), key)).toBeNull()
    const reference = { tenantName: mine.name, modelName: 'support-bot' }
    expect(await resolveModel(db(), reference)).toBeNull()
    expect(await resolveModel(db(), { ...reference, version: 1 })).toBeNull()
    expect(await removeModel(db(), key)).toBe(false)
    // The same name of another tenant is another model, with its own numbers.
    const mineVersion = await addAdapterVersion(db(), createAdapter(mine.id))
    expect(mineVersion.version).toBe(1)
    expect(mineVersion.modelId).not.toBe(own.modelId)
    expect(await removeModel(db(), key)).toBe(true)
    expect(await listModels(db(), theirs.id)).toMatchObject([{ id: own.modelId, version: 1 }])
    expect(await listAdapterVersions(db(), own.modelId)).toHaveLength(1)
  })

  it('knows who has deployed an adapter, also of a model that is gone', async () => {
    const [mine, theirs] = [await addTenant(db()), await addTenant(db())]
    const adapter = createAdapter(mine.id)
    await addAdapterVersion(db(), adapter)
    await addAdapterVersion(db(), { ...adapter, digest: digestOf('c') })
    await addAdapterVersion(db(), { ...createAdapter(theirs.id), digest: digestOf('e') })
    await removeModel(db(), { tenantId: mine.id, name: adapter.modelName })
    const has = (tenantId: string, digest: string) => hasAdapter(db(), { tenantId, digest })
    expect(await has(mine.id, adapter.digest)).toBe(true)
    expect(await has(theirs.id, adapter.digest)).toBe(false)
    expect(await has(mine.id, digestOf('e'))).toBe(false)
  })
})
