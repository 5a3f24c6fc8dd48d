/**
 * A revoked key is let in nowhere for longer than 10 s: not at the edge that revoked it, nor at
 * another, nor at one that is cut off from the database. And while the database is away for all, so
 * that nobody can revoke anything, known keys go on.
 */
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { type Database, openDatabase } from '#db/client.ts'
import { DatabaseError } from '#db/errors.ts'
import { revokeApiKey } from '#db/queries/api-keys.ts'
import { createRandom } from '../../gpu-host/test/support/random.ts'
import { reportRun, SEED, sized } from '../../gpu-host/test/support/soak-run.ts'
import { createApiKey, KeyHasher } from '../auth/api-key.ts'
import { Authenticator } from '../auth/authenticate.ts'
import { Sessions } from '../auth/session.ts'
import { toEdgeError } from '../errors.ts'
import { KEY_WATCH_MS, OUTAGE_GRACE_MS } from '../limits.ts'
import { EdgeMetrics } from '../metrics.ts'
import { CutOffWatch } from '../pool/cut-off-watch.ts'
import { type StoredKey, storeKey } from './support/stored-key.ts'
import { TestPool, until } from './support/test-pool.ts'

const hasher = new KeyHasher('pepper')
/** Trials, each with phases of its own. */
const TRIALS = sized(25, 200)
const REVOKED_WITHIN_MS = 10_000
/** From one request with the key to the next at each edge. */
const REQUEST_MS = 250
const BEAT_MS = 1000

let database: Database
let nowMs = 0
beforeAll(async () => {
  database = await openDatabase('pglite:memory')
  await database.migrate()
  return () => database.close()
})

interface Edge {
  readonly authenticator: Authenticator
  readonly cutOff: CutOffWatch
  isAway: boolean
}

async function createEdge(): Promise<Edge> {
  const cutOff = new CutOffWatch(() => nowMs)
  const edge = { cutOff, isAway: false }
  const db = new Proxy(database.db, {
    get(target, name, self) {
      if (edge.isAway) throw new DatabaseError('database_unavailable', 'cut off')
      return Reflect.get(target, name, self)
    },
  })
  const authenticator = new Authenticator({
    db,
    hasher,
    operatorKey: await createApiKey(),
    sessions: new Sessions({ hasher, nowMs: () => nowMs }),
    metrics: new EdgeMetrics(),
    nowMs: () => nowMs,
    downForMs: () => null,
    isCutOff: (startMs) => cutOff.isCutOff(startMs),
  })
  return Object.assign(edge, { authenticator })
}

const addKey = (): Promise<StoredKey> => storeKey(database.db, hasher)

/** Code of the refusal; null = let in. */
async function ask({ authenticator }: Edge, key: string): Promise<string | null> {
  try {
    const beside: Promise<void>[] = []
    await authenticator.authenticate(`Bearer ${key}`, (work) => beside.push(work))
    await Promise.all(beside)
    return null
  } catch (error) {
    return toEdgeError(error).code
  }
}

/** Heartbeats of hosts that report to every edge: each says when one was last stored, anywhere. */
class Beats {
  readonly #edges: readonly Edge[]
  readonly #random: () => number
  #storedMs: number | null = null
  #nextMs: number
  readonly #underWay: { readonly atMs: number; readonly edge: Edge; readonly agoMs: number }[] = []

  constructor(edges: readonly Edge[], random: () => number) {
    this.#edges = edges
    this.#random = random
    this.#nextMs = nowMs
  }

  upTo(untilMs: number): void {
    for (; this.#nextMs <= untilMs; this.#nextMs += BEAT_MS) {
      if (this.#edges.some(({ isAway }) => !isAway)) this.#storedMs = this.#nextMs
      if (this.#storedMs === null) continue
      for (const edge of this.#edges) {
        // Some are late.
        const atMs = this.#nextMs + (this.#random() < 0.1 ? 1500 : 300) * this.#random()
        this.#underWay.push({ atMs, edge, agoMs: this.#nextMs - this.#storedMs })
      }
    }
    for (let i = this.#underWay.length - 1; i >= 0; i--) {
      const beat = this.#underWay[i]
      if (beat === undefined || beat.atMs > untilMs) continue
      this.#underWay.splice(i, 1)
      beat.edge.cutOff.heard(beat.agoMs)
    }
  }
}

describe('a revoked key', () => {
  it(`is let in nowhere after 10 s, in ${TRIALS} trials with an edge cut off from the database (seed ${SEED})`, async () => {
    const random = createRandom(SEED)
    const last = { own: 0, other: 0, cut: 0 }
    for (let trial = 0; trial < TRIALS; trial++) {
      const [own, other, cut] = [await createEdge(), await createEdge(), await createEdge()]
      const edges = { own, other, cut }
      const beats = new Beats(Object.values(edges), random)
      const { key, id, tenantId } = await addKey()
      const startMs = nowMs
      const cutMs = startMs + 3000 + random() * 10_000
      const revokedMs = cutMs + (random() < 0.2 ? -2000 : random() * 20_000)
      let isRevoked = false
      for (; nowMs < revokedMs + 2 * REVOKED_WITHIN_MS; nowMs += REQUEST_MS) {
        beats.upTo(nowMs)
        if (nowMs >= cutMs) cut.isAway = true
        if (!isRevoked && nowMs >= revokedMs) {
          await revokeApiKey(database.db, { tenantId, id })
          own.authenticator.forget(id)
          isRevoked = true
        }
        for (const [name, edge] of Object.entries(edges)) {
          const refusal = await ask(edge, key)
          if (refusal === null && isRevoked) {
            last[name as keyof typeof last] = Math.max(
              last[name as keyof typeof last],
              nowMs - revokedMs,
            )
          }
          // Nobody is sent away before: not even by an edge that has only just been cut off.
          if (!isRevoked && nowMs < cutMs + 1000) expect(refusal).toBeNull()
        }
      }
      // It does not take the key for revoked: it says that it cannot know.
      expect(await ask(cut, key)).toBe('database_unavailable')
      expect(await ask(other, key)).toBe('invalid_api_key')
    }
    expect(last.own).toBe(0)
    expect(last.other).toBeLessThanOrEqual(REVOKED_WITHIN_MS)
    expect(last.cut).toBeLessThanOrEqual(REVOKED_WITHIN_MS)
    // It was cut off in earnest: what it remembered did let the key in for a while.
    expect(last.cut).toBeGreaterThan(0)
    reportRun('revocation with an edge cut off', {
      ...{ seed: SEED, trials: TRIALS, clock: 'virtual' },
      last_success_ms: last,
    })
  })

  it('of an edge that was cut off and is back is found out at once', async () => {
    const [own, cut] = [await createEdge(), await createEdge()]
    const beats = new Beats([own, cut], createRandom(1))
    const { key, id, tenantId } = await addKey()
    expect(await ask(cut, key)).toBeNull()
    cut.isAway = true
    await revokeApiKey(database.db, { tenantId, id })
    for (const endMs = nowMs + 15_000; nowMs < endMs; nowMs += REQUEST_MS) {
      beats.upTo(nowMs)
      await ask(cut, key)
    }
    expect(await ask(cut, key)).toBe('database_unavailable')
    cut.isAway = false
    expect(await ask(cut, key)).toBe('invalid_api_key')
  })
})

describe('a stream', () => {
  it('ends when its key is revoked, and owes what it gave', async () => {
    const pool = await TestPool.start()
    try {
      const limits = { contextLength: 4096 }
      const delay = () => new Promise<void>((resolve) => setTimeout(resolve, 10))
      const host = await pool.addHost({ engine: { limits, eosOneIn: 0, delay } })
      const tenant = await pool.addTenant()
      vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
      const response = await pool.call('POST', '/v1/chat/completions', tenant.key, {
        ...{ model: 'fake-base', messages: [{ role: 'user', content: 'hi' }] },
        ...{ max_tokens: 4000, stream: true },
      })
      const text = response.text()
      await until(() => expect(host.engine.openSequences.size).toBe(1))
      await vi.advanceTimersByTimeAsync(KEY_WATCH_MS)
      await pool.admin('DELETE', `/v1/tenants/${tenant.name}/keys/${tenant.keyId}`)
      await vi.advanceTimersByTimeAsync(KEY_WATCH_MS)
      expect(await text).toContain('"code":"invalid_api_key"')
      expect(await text).not.toContain('[DONE]')
      await until(() => expect(host.engine.openSequences.size).toBe(0))
    } finally {
      vi.useRealTimers()
      await pool.stop()
    }
  })
})

describe('a known key', () => {
  it('is let in for 15 minutes while the database is away for every edge', async () => {
    const edges = [await createEdge(), await createEdge(), await createEdge()]
    const beats = new Beats(edges, createRandom(2))
    const { key } = await addKey()
    let refused = 0
    let asked = 0
    const startMs = nowMs + 10_000
    for (; nowMs < startMs + OUTAGE_GRACE_MS - 1000; nowMs += 1000) {
      beats.upTo(nowMs)
      if (nowMs >= startMs) for (const edge of edges) edge.isAway = true
      for (const edge of edges) {
        asked += 1
        if ((await ask(edge, key)) !== null) refused += 1
      }
    }
    expect(asked).toBeGreaterThan(2500)
    expect(refused).toBe(0)
    for (; nowMs < startMs + OUTAGE_GRACE_MS + 10_000; nowMs += REQUEST_MS) {
      for (const edge of edges) await ask(edge, key)
    }
    for (const edge of edges) expect(await ask(edge, key)).toBe('database_unavailable')
  })
})
