/**
 * Workers in workerd on one database, through Neon's HTTP driver, in front of a real host with the
 * fake engine. Nothing here needs a network beyond loopback.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect } from 'vitest'
import { type Database, openDatabase } from '../../../db/client.ts'
import { type NeonEndpoint, startNeonEndpoint } from '../../../db/test/support/neon-endpoint.ts'
import {
  findPostgres,
  type PostgresServer,
  startPostgres,
} from '../../../db/test/support/postgres-server.ts'
import type { Gate } from '../../../gpu-host/test/support/gate.ts'
import { createApiKey } from '../../auth/api-key.ts'
import { PoolClient } from './pool-client.ts'
import { type PoolHost, startPoolHost } from './pool-host.ts'
import { edgeEnvironment, POOL_SECRET, until } from './test-pool.ts'
import { buildWorker, type WorkerBundle } from './worker-bundle.ts'
import { startWorkerd, type Workerd } from './workerd.ts'

interface Parts {
  readonly server: PostgresServer
  readonly database: Database
  readonly endpoint: NeonEndpoint
  readonly bundle: WorkerBundle
  readonly bindings: Readonly<Record<string, string>>
  readonly first: Workerd
}

/** As a client: of the first Worker. */
export class WorkerPool extends PoolClient {
  readonly database: Database
  readonly endpoint: NeonEndpoint
  readonly workers: Workerd[] = []
  /** Holds the engine's steps while there is one. */
  gate: Gate | null = null
  #host: PoolHost | null = null
  readonly #parts: Parts

  private constructor(parts: Parts, operatorKey: string) {
    super(parts.first.url, operatorKey)
    this.#parts = parts
    this.database = parts.database
    this.endpoint = parts.endpoint
    this.workers.push(parts.first)
  }

  /** `more`: bindings besides those that every Worker needs. */
  static async start(more: Readonly<Record<string, string>> = {}): Promise<WorkerPool> {
    const bundle = await buildWorker(mkdtempSync(join(tmpdir(), 'nozzle-bundle-')))
    const server = await startPostgres(findPostgres() ?? '')
    const database = await openDatabase(server.url)
    await database.migrate()
    const endpoint = await startNeonEndpoint(server.url)
    const operatorKey = await createApiKey()
    const bindings = {
      ...edgeEnvironment(operatorKey),
      NOZZLE_DATABASE_URL: 'postgres://user:secret@neon.test/nozzle',
      NOZZLE_NEON_FETCH_ENDPOINT: endpoint.url,
      ...more,
    }
    const first = await startWorkerd({ bundle, bindings })
    const parts = { server, database, endpoint, bundle, bindings, first }
    const pool = new WorkerPool(parts, operatorKey)
    await pool.#addHost()
    return pool
  }

  get host(): PoolHost {
    if (this.#host === null) throw new Error('the host has not started')
    return this.#host
  }

  /** Another isolate; resolves to a client of it. */
  async addWorker(): Promise<PoolClient> {
    const { bundle, bindings } = this.#parts
    const worker = await startWorkerd({ bundle, bindings })
    this.workers.push(worker)
    return new PoolClient(worker.url, this.operatorKey)
  }

  async stop(): Promise<void> {
    await this.#host?.stop()
    await Promise.all(this.workers.map((worker) => worker.stop()))
    await this.endpoint.close()
    await this.database.close()
    await this.#parts.server.stop()
    rmSync(this.#parts.bundle.directory, { recursive: true, force: true })
  }

  async #addHost(): Promise<void> {
    this.#host = await startPoolHost({
      edgeUrl: this.url,
      poolSecret: POOL_SECRET,
      store: new Map(),
      engine: { delay: () => this.gate?.pass() ?? nextTurn() },
    })
    await until(async () => {
      const health = await this.call('GET', '/healthz', '')
      expect(await health.json()).toMatchObject({ status: 'ok', hosts_ready: 1 })
    })
  }
}
