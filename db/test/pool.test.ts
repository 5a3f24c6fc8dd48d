import { describe, expect, it } from 'vitest'
import { listBaseModels, upsertBaseModel } from '../queries/base-models.ts'
import { listHostWishes, removeHost, setHostWish } from '../queries/host-wishes.ts'
import { listHosts, recordHeartbeat } from '../queries/hosts.ts'
import { addPrice, currentPrice, DEFAULT_PRICES } from '../queries/prices.ts'
import { describeOnEachDatabase } from './support/database.ts'
import { addBaseModel, createHeartbeat, uniqueName } from './support/records.ts'

const T0 = new Date('2026-11-01T10:00:00.000Z')
const T1 = new Date('2026-11-01T10:00:01.000Z')

describeOnEachDatabase((db) => {
  const hostOf = async (id: string, seenAfter = T0) =>
    (await listHosts(db(), { seenAfter })).find((host) => host.id === id)

  describe('hosts', () => {
    it('are listed with their last heartbeat, whole', async () => {
      const first = createHeartbeat()
      const load = { ...first.load, sequences_running: 9 }
      const second = { ...first, load, status: 'draining' as const, adapters: [] }
      expect(await recordHeartbeat(db(), first, T0)).toBe('serve')
      expect(await hostOf(first.host_id)).toEqual({
        id: first.host_id,
        epoch: 7,
        seenAt: T0,
        heartbeat: first,
      })
      expect(await recordHeartbeat(db(), second, T1)).toBe('serve')
      expect(await hostOf(first.host_id)).toMatchObject({ seenAt: T1, heartbeat: second })
    })

    it('keep their adapters through heartbeats that change only the load', async () => {
      const adapters = Array.from({ length: 300 }, (_, index) => ({
        digest: `sha256:${index.toString(16).padStart(64, '0')}`,
        tier: 'disk' as const,
        sequences: 0,
      }))
      const heartbeat = createHeartbeat({ adapters })
      await recordHeartbeat(db(), heartbeat, T0)
      await recordHeartbeat(db(), { ...heartbeat, context_length: 64 }, T1)
      expect((await hostOf(heartbeat.host_id))?.heartbeat).toEqual({
        ...heartbeat,
        context_length: 64,
      })
    })

    it('refuse the heartbeat of an older start, and take that of a newer one', async () => {
      const heartbeat = createHeartbeat({ epoch: 7 })
      await recordHeartbeat(db(), heartbeat, T0)
      const ghost = { ...heartbeat, epoch: 6, url: 'http://ghost' }
      expect(await recordHeartbeat(db(), ghost, T1)).toBeNull()
      expect(await hostOf(heartbeat.host_id)).toMatchObject({ epoch: 7, seenAt: T0, heartbeat })
      expect(await recordHeartbeat(db(), { ...heartbeat, epoch: 8 }, T1)).toBe('serve')
      expect(await hostOf(heartbeat.host_id)).toMatchObject({ epoch: 8, seenAt: T1 })
    })

    it('refuse a second process of the same start, which runs elsewhere', async () => {
      const heartbeat = createHeartbeat({ epoch: 7 })
      await recordHeartbeat(db(), heartbeat, T0)
      const copy = { ...heartbeat, url: 'http://elsewhere' }
      expect(await recordHeartbeat(db(), copy, T1)).toBeNull()
      expect(await recordHeartbeat(db(), { ...copy, epoch: 8 }, T1)).toBe('serve')
    })

    it('are told what the operator wants, over restarts and removal', async () => {
      const heartbeat = createHeartbeat()
      const { host_id: id } = heartbeat
      await setHostWish(db(), { id, wish: 'drain' })
      expect(await recordHeartbeat(db(), heartbeat, T0)).toBe('drain')
      expect(await recordHeartbeat(db(), { ...heartbeat, epoch: 99 }, T1)).toBe('drain')
      // It has not heard of its drain yet, and nobody shall take it for ready meanwhile.
      expect((await hostOf(id))?.heartbeat.status).toBe('draining')
      const wishOf = async () => (await listHostWishes(db())).find((row) => row.hostId === id)
      expect(await wishOf()).toMatchObject({ wish: 'drain', removedAt: null })
      await setHostWish(db(), { id, wish: 'serve' })
      expect(await recordHeartbeat(db(), { ...heartbeat, epoch: 99, beat: 9 }, T1)).toBe('serve')
      expect((await hostOf(id))?.heartbeat.status).toBe('ready')
      await removeHost(db(), id)
      expect(await hostOf(id)).toBeUndefined()
      expect(await wishOf()).toMatchObject({ wish: 'drain', removedAt: expect.any(Date) })
      expect(await recordHeartbeat(db(), heartbeat, T1)).toBe('drain')
      await setHostWish(db(), { id, wish: 'serve' })
      expect(await wishOf()).toMatchObject({ wish: 'serve', removedAt: null })
    })

    it('keep the report that counts higher of one start, however late another arrives', async () => {
      const heartbeat = createHeartbeat({ beat: 5 })
      await recordHeartbeat(db(), heartbeat, T0)
      const late = { ...heartbeat, beat: 4, context_length: 64, adapters: [] }
      expect(await recordHeartbeat(db(), late, T1)).toBe('serve')
      expect(await hostOf(heartbeat.host_id)).toMatchObject({ seenAt: T1, heartbeat })
      const next = { ...late, beat: 6 }
      await recordHeartbeat(db(), next, T1)
      expect((await hostOf(heartbeat.host_id))?.heartbeat).toEqual(next)
      const restarted = { ...late, epoch: heartbeat.epoch + 1, beat: 1 }
      await recordHeartbeat(db(), restarted, T1)
      expect((await hostOf(heartbeat.host_id))?.heartbeat).toEqual(restarted)
    })

    it('are left out once they have been silent', async () => {
      const heartbeat = createHeartbeat()
      await recordHeartbeat(db(), heartbeat, T0)
      expect(await hostOf(heartbeat.host_id, T0)).toBeDefined()
      expect(await hostOf(heartbeat.host_id, T1)).toBeUndefined()
    })

    it('are not seen earlier than before by an edge whose clock is behind', async () => {
      const heartbeat = createHeartbeat()
      await recordHeartbeat(db(), heartbeat, T1)
      expect(await recordHeartbeat(db(), heartbeat, T0)).toBe('serve')
      expect(await hostOf(heartbeat.host_id)).toMatchObject({ seenAt: T1 })
    })
  })

  describe('base models', () => {
    it('have a price from the start, one also when many edges report them at once', async () => {
      const name = uniqueName('base')
      const digest = `sha256:${'1'.repeat(64)}`
      await Promise.all([1, 2, 3, 4].map(() => upsertBaseModel(db(), { name, digest })))
      expect(await currentPrice(db(), name)).toMatchObject({ version: 1, ...DEFAULT_PRICES })
      const [row] = (await listBaseModels(db())).filter((base) => base.name === name)
      expect(row).toMatchObject({ name, digest })
    })

    it('take a new digest, and keep their price', async () => {
      const name = await addBaseModel(db())
      const price = await currentPrice(db(), name)
      const digest = `sha256:${'2'.repeat(64)}`
      await upsertBaseModel(db(), { name, digest })
      expect(await listBaseModels(db())).toContainEqual(expect.objectContaining({ name, digest }))
      expect(await currentPrice(db(), name)).toEqual(price)
    })
  })

  describe('prices', () => {
    it('are replaced by new versions, up to the largest integer', async () => {
      const baseModel = await addBaseModel(db())
      const prices = { promptPusd: 2n ** 63n - 1n, cachedPromptPusd: 0n, completionPusd: 1n }
      const id = await addPrice(db(), { baseModel, ...prices })
      expect(await currentPrice(db(), baseModel)).toMatchObject({ id, version: 2, ...prices })
    })

    it('are unknown for a base model that nobody serves', async () => {
      expect(await currentPrice(db(), 'nobody-serves-it')).toBeNull()
    })
  })
})
