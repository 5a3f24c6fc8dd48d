/**
 * One edge with two hosts on the fake engine, as the processes that an operator runs, on a database
 * of its own. What dies starts again on the same ports, directories and database.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createApiKey } from '../../edge/auth/api-key.ts'
import { PoolClient } from '../../edge/test/support/pool-client.ts'
import { freePorts } from '../lib/free-ports.ts'
import { CrashingProcess } from './crashing-process.ts'
import { toClockEnvironment } from './shifted-clock.ts'

export const HOSTS = 2

export interface TenantKey {
  readonly id: string
  /** The secret that a client sends. */
  readonly key: string
}

export interface ClusterTenant {
  readonly id: string
  readonly keys: readonly TenantKey[]
}

const ROOT = join(import.meta.dirname, '..', '..')
const EDGE_ENTRY = join(ROOT, 'edge', 'node.ts')
const HOST_ENTRY = join(ROOT, 'gpu-host', 'test', 'support', 'fake-host-process.ts')
const EDGE_KILL_POINTS = join(import.meta.dirname, 'edge-kill-points.ts')
const HOST_KILL_POINTS = join(import.meta.dirname, 'host-kill-points.ts')
const HAND_OVER = join(import.meta.dirname, 'host-hand-over.ts')
const SHIFTED_CLOCK = join(import.meta.dirname, 'shifted-clock.ts')
const SECRET = 'a secret of the fault bench that is long enough'
/** Long enough for a chunk to pass the edge before the next is made, on a machine of two cores. */
const STEP_MS = 15
const READY_MS_MAX = 30_000
const PAUSE_MS = 20

export class Cluster {
  readonly edge: CrashingProcess
  readonly hosts: readonly CrashingProcess[]
  /** Where each host keeps its journal. */
  readonly journals: readonly string[]
  readonly url: string
  readonly #client: PoolClient
  readonly #directory = mkdtempSync(join(tmpdir(), 'nozzle-fault-'))
  #tenant: ClusterTenant | null = null

  private constructor(
    databaseUrl: string,
    operatorKey: string,
    edgePort: number,
    hostPorts: readonly number[],
    clockOffMs: number,
  ) {
    this.url = `http://127.0.0.1:${edgePort}`
    this.#client = new PoolClient(this.url, operatorKey)
    const shared = {
      NOZZLE_POOL_SECRET: SECRET,
      NOZZLE_BASE_MODEL_NAME: 'fake-base',
      // Starts are most of what a case costs: what was compiled once is read from here.
      NODE_COMPILE_CACHE: join(this.#directory, 'compiled'),
      ...toClockEnvironment(clockOffMs),
    }
    this.edge = new CrashingProcess({
      entry: EDGE_ENTRY,
      args: [],
      preload: [SHIFTED_CLOCK, EDGE_KILL_POINTS],
      env: {
        ...shared,
        NOZZLE_PORT: String(edgePort),
        NOZZLE_KEY_PEPPER: SECRET,
        NOZZLE_DATABASE_URL: databaseUrl,
        NOZZLE_OPERATOR_KEY: operatorKey,
      },
    })
    const homes = hostPorts.map((_, i) => join(this.#directory, `host-${i}`))
    this.journals = homes.map((home) => join(home, 'host', 'journal'))
    this.hosts = homes.map(
      (home, i) =>
        new CrashingProcess({
          entry: HOST_ENTRY,
          args: [String(STEP_MS)],
          preload: [SHIFTED_CLOCK, HOST_KILL_POINTS, HAND_OVER],
          env: {
            ...shared,
            NOZZLE_HOST_ID: `hst_${i}`,
            NOZZLE_HOST_PORT: String(hostPorts[i]),
            NOZZLE_DATA_DIR: home,
            NOZZLE_BASE_MODEL_PATH: 'none',
            NOZZLE_EDGE_URL: this.url,
          },
        }),
    )
  }

  /**
   * Resolves when a request would be served. `databaseUrl` names an empty database. The clocks of
   * all processes are `clockOffMs` ahead of the machine's, which is the database's.
   */
  static async start(databaseUrl: string, keyCount: number, clockOffMs = 0): Promise<Cluster> {
    const operatorKey = await createApiKey()
    const [edgePort = 0, ...hostPorts] = await freePorts(1 + HOSTS)
    const cluster = new Cluster(databaseUrl, operatorKey, edgePort, hostPorts, clockOffMs)
    await cluster.heal()
    const { id, name } = await cluster.#client.addTenant()
    const addKey = () => cluster.#client.admin<TenantKey>('POST', `/v1/tenants/${name}/keys`, {})
    cluster.#tenant = { id, keys: await Promise.all(Array.from({ length: keyCount }, addKey)) }
    return cluster
  }

  /** Keys that the edge has made and not yet met. */
  addKeys(count: number): Promise<TenantKey[]> {
    const path = `/v1/tenants/${this.tenant.id}/keys`
    const add = () => this.#client.admin<TenantKey>('POST', path, {})
    return Promise.all(Array.from({ length: count }, add))
  }

  get tenant(): ClusterTenant {
    if (this.#tenant === null) throw new Error('the cluster has not started')
    return this.#tenant
  }

  /** Tokens that a host handed to the edge for a request; null = none lived to say so. */
  handedOver(requestId: string): number | null {
    const counts = this.hosts.flatMap(({ handedOver }) => handedOver.get(requestId) ?? [])
    return counts.length === 0 ? null : Math.max(...counts)
  }

  /** Starts what is dead. Resolves when the edge knows every host and answers from its database. */
  async heal(): Promise<void> {
    const dead = [this.edge, ...this.hosts].filter((process) => !process.isRunning)
    await Promise.all(dead.map((process) => process.startSupervised()))
    const deadline = performance.now() + READY_MS_MAX
    while (!(await this.#isServing())) {
      if (performance.now() > deadline) throw new Error('the cluster does not come back')
      await sleep(PAUSE_MS)
    }
  }

  async stop(): Promise<void> {
    await Promise.all([this.edge, ...this.hosts].map((process) => process.kill()))
    rmSync(this.#directory, { recursive: true, force: true })
  }

  async #isServing(): Promise<boolean> {
    try {
      const { data } = await this.#client.admin<{ data: unknown[] }>('GET', '/v1/hosts')
      await this.#client.admin('GET', '/v1/tenants')
      return data.length === HOSTS
    } catch {
      return false
    }
  }
}
