/**
 * Edges and hosts as the processes that an operator runs, on one database: the product's own
 * entries and the native engine, a shared adapter store, and a proxy that can fail in front of each
 * host. What dies starts again on the same ports and directories. Heartbeats and usage do not pass
 * the proxies.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { createApiKey } from '../../edge/auth/api-key.ts'
import { PoolClient } from '../../edge/test/support/pool-client.ts'
import { Random } from '../../native/test/support/random.ts'
import { CrashingProcess } from '../fault/crashing-process.ts'
import { freePorts } from '../lib/free-ports.ts'
import { FaultyProxy } from './faulty-proxy.ts'
import { tierMessage, WATCH_ENVIRONMENT } from './host-watch.ts'
import { LIVE_MEMORY_ENVIRONMENT, LiveMemory } from './live-memory.ts'
import { POOL_CONTEXT_LENGTH, POOL_RANK, type QuestionSet } from './questions.ts'
import { toPaceEnvironment, toPaceMessage } from './step-pace.ts'

export interface PoolSizes {
  readonly edges: number
  readonly hosts: number
  /** Each with models and keys of its own. */
  readonly tenants: number
  /** Of each host. */
  readonly sequences: number
  readonly queueDepth: number
  /** Absent = as the host reckons. */
  readonly waitTargetMs?: number
  /** Least time of an engine step. */
  readonly stepMs: number
  /** What a host that ends has for its streams; absent = its own default. */
  readonly drainGraceMs?: number
  /** Edges pass the proxies by, which share the clients' process: for benches without faults. */
  readonly isDirect?: boolean
  /** Hears what edges and hosts write to their logs. */
  readonly onLog?: (text: string) => void
  readonly seed: number
  /** Told to each edge besides; absent = nothing. */
  readonly edgeEnv?: Readonly<Record<string, string>>
  /** What runs as an edge; absent = edge/node.ts. */
  readonly edgeEntry?: string
}

export interface PoolTenant {
  readonly id: string
  readonly name: string
  readonly key: string
  readonly keyId: string
}

/** A host with what stands around it. */
export interface PoolHost {
  readonly id: string
  readonly process: CrashingProcess
  readonly proxy: FaultyProxy
  /** Where it listens, past the proxy. */
  readonly url: string
  readonly journal: string
  /** Packs that it read from the store, and copies into its slots, of all its lives. */
  readonly tiers: { fetches: number; loads: number }
  readonly memory: LiveMemory
  /** Least time of a step, until it starts anew. */
  pace(stepMs: number): void
  /** Stops it in order, and starts it without the adapters that it kept: the store has them. */
  restartForgetting(): Promise<void>
}

export interface PoolEdge {
  readonly process: CrashingProcess
  readonly memory: LiveMemory
  readonly url: string
}

const ROOT = join(import.meta.dirname, '..', '..')
const EDGE_ENTRY = join(ROOT, 'edge', 'node.ts')
const HOST_ENTRY = join(ROOT, 'gpu-host', 'index.ts')
const STEP_PACE = join(import.meta.dirname, 'step-pace.ts')
const HOST_WATCH = join(import.meta.dirname, 'host-watch.ts')
const LIVE_MEMORY = join(import.meta.dirname, 'live-memory.ts')
const SECRET = 'a secret of the pool benches that is long enough'
const READY_MS_MAX = 60_000
const PAUSE_MS = 50

const hostList = z.object({ data: z.array(z.object({ host_id: z.string(), status: z.string() })) })

export class PoolCluster {
  readonly edges: readonly PoolEdge[]
  readonly hosts: readonly PoolHost[]
  readonly tenants: PoolTenant[] = []
  readonly #operatorKey: string
  readonly #directory: string

  private constructor(
    edges: readonly PoolEdge[],
    hosts: readonly PoolHost[],
    operatorKey: string,
    directory: string,
  ) {
    this.edges = edges
    this.hosts = hosts
    this.#operatorKey = operatorKey
    this.#directory = directory
  }

  /**
   * Resolves when every edge knows every host, and each tenant has all the set's models.
   * `databaseUrl` names an empty database of PostgreSQL; one edge may have its own PGlite.
   */
  static async start(
    databaseUrl: string,
    set: QuestionSet,
    sizes: PoolSizes,
  ): Promise<PoolCluster> {
    const directory = mkdtempSync(join(tmpdir(), 'nozzle-pool-'))
    const operatorKey = await createApiKey()
    const ports = await freePorts(sizes.edges + sizes.hosts)
    const shared = {
      ...LIVE_MEMORY_ENVIRONMENT,
      NOZZLE_POOL_SECRET: SECRET,
      NOZZLE_BASE_MODEL_NAME: set.baseModel,
      NODE_COMPILE_CACHE: join(directory, 'compiled'),
    }
    const edges = ports.slice(0, sizes.edges).map((port): PoolEdge => {
      const env = {
        ...shared,
        NOZZLE_PORT: String(port),
        NOZZLE_KEY_PEPPER: SECRET,
        NOZZLE_DATABASE_URL: databaseUrl,
        NOZZLE_OPERATOR_KEY: operatorKey,
        ...sizes.edgeEnv,
      }
      const memory = new LiveMemory()
      const entry = sizes.edgeEntry ?? EDGE_ENTRY
      const process = new CrashingProcess({
        ...{ entry, args: [], preload: [LIVE_MEMORY], env },
        onMessage: memory.onMessage,
        onLog: sizes.onLog ?? (() => {}),
      })
      return { process, memory, url: `http://127.0.0.1:${port}` }
    })
    const edgeUrls = edges.map(({ url }) => url)
    const hosts = await Promise.all(
      ports
        .slice(sizes.edges)
        .map((port, i) => createHost({ i, port, directory, edgeUrls, shared, set, sizes })),
    )
    const cluster = new PoolCluster(edges, hosts, operatorKey, directory)
    await cluster.heal()
    await cluster.#addTenants(set, sizes.tenants)
    return cluster
  }

  /** Starts what is dead, lifts all faults; resolves when every edge knows every host as ready. */
  async heal(): Promise<void> {
    for (const { proxy, process } of this.hosts) {
      proxy.heal()
      if (process.isRunning) process.signal('SIGCONT')
    }
    const processes = [...this.edges, ...this.hosts].map(({ process }) => process)
    const dead = processes.filter((process) => !process.isRunning)
    // The first edge migrates the database; the others find it done.
    for (const process of dead.slice(0, this.edges.length)) await process.startSupervised()
    await Promise.all(dead.slice(this.edges.length).map((process) => process.startSupervised()))
    const deadline = performance.now() + READY_MS_MAX
    for (const edge of this.edges) {
      while ((await this.readyHosts(edge)) < this.hosts.length) {
        if (performance.now() > deadline) throw new Error('the pool does not come back')
        await sleep(PAUSE_MS)
      }
    }
  }

  /** Hosts that an edge gives requests to; 0 also where it does not answer. */
  async readyHosts({ url }: PoolEdge): Promise<number> {
    try {
      const client = new PoolClient(url, this.#operatorKey)
      const { data } = hostList.parse(await client.admin('GET', '/v1/hosts'))
      return data.filter(({ status }) => status === 'ready').length
    } catch {
      return 0
    }
  }

  get operatorKey(): string {
    return this.#operatorKey
  }

  /** As the operator, at the first edge; throws on anything but success. */
  admin(method: string, path: string): Promise<unknown> {
    const [edge] = this.edges
    if (edge === undefined) throw new Error('a pool has an edge')
    return new PoolClient(edge.url, this.#operatorKey).admin(method, path)
  }

  tenant(index: number): PoolTenant {
    const tenant = this.tenants[index % this.tenants.length]
    if (tenant === undefined) throw new Error('the pool has no tenants')
    return tenant
  }

  async stop(): Promise<void> {
    const processes = [...this.edges, ...this.hosts].map(({ process }) => process)
    await Promise.all(processes.map((process) => process.kill()))
    await Promise.all(this.hosts.map(({ proxy }) => proxy.close()))
    rmSync(this.#directory, { recursive: true, force: true })
  }

  async #addTenants({ adapters }: QuestionSet, count: number): Promise<void> {
    const [edge] = this.edges
    if (edge === undefined) throw new Error('a pool has an edge')
    const client = new PoolClient(edge.url, this.#operatorKey)
    for (let i = 0; i < count; i++) {
      const tenant = await client.addTenant()
      this.tenants.push(tenant)
      for (const adapter of adapters) await client.deployPeft(tenant, adapter)
    }
  }
}

interface HostRecipe {
  readonly i: number
  readonly port: number
  readonly directory: string
  readonly edgeUrls: readonly string[]
  readonly shared: Readonly<Record<string, string>>
  readonly set: QuestionSet
  readonly sizes: PoolSizes
}

async function createHost(recipe: HostRecipe): Promise<PoolHost> {
  const { i, port, directory, edgeUrls, set, sizes } = recipe
  const home = join(directory, `host-${i}`)
  mkdirSync(home)
  const proxy = await FaultyProxy.listen(port, new Random('proxy', sizes.seed, i))
  const id = `hst_${i}`
  const url = `http://127.0.0.1:${port}`
  const tiers = { fetches: 0, loads: 0 }
  const memory = new LiveMemory()
  const process = new CrashingProcess({
    entry: HOST_ENTRY,
    args: [],
    preload: [STEP_PACE, HOST_WATCH, LIVE_MEMORY],
    onLog: sizes.onLog ?? (() => {}),
    onMessage: (message) => {
      memory.onMessage(message)
      const { data } = tierMessage.safeParse(message)
      if (data?.did === 'fetch') tiers.fetches += 1
      if (data?.did === 'load') tiers.loads += 1
    },
    env: {
      ...recipe.shared,
      ...toPaceEnvironment(sizes.stepMs),
      ...WATCH_ENVIRONMENT,
      NOZZLE_HOST_ID: id,
      NOZZLE_HOST_PORT: String(port),
      NOZZLE_HOST_URL: sizes.isDirect ? url : proxy.url,
      NOZZLE_DATA_DIR: home,
      NOZZLE_STORE: join(directory, 'store'),
      ...(sizes.drainGraceMs && { NOZZLE_DRAIN_GRACE_MS: String(sizes.drainGraceMs) }),
      NOZZLE_BASE_MODEL_PATH: set.modelPath,
      NOZZLE_EDGE_URL: edgeUrls.join(','),
      NOZZLE_DEVICE: 'cpu',
      // Engine threads spin, and cores are few.
      NOZZLE_THREADS: '1',
      NOZZLE_CONTEXT_LENGTH: String(POOL_CONTEXT_LENGTH),
      NOZZLE_RANK_MAX: String(POOL_RANK),
      NOZZLE_SEQUENCES: String(sizes.sequences),
      NOZZLE_SLOTS: String(Math.min(64, sizes.sequences)),
      NOZZLE_ROWS_MAX: String(Math.max(256, sizes.sequences)),
      ...(sizes.waitTargetMs && { NOZZLE_QUEUE_WAIT_TARGET_MS: String(sizes.waitTargetMs) }),
      NOZZLE_QUEUE_DEPTH_MAX: String(sizes.queueDepth),
      NOZZLE_QUEUE_DEPTH_TENANT_MAX: String(sizes.queueDepth),
    },
  })
  return {
    ...{ id, process, proxy, url, tiers, memory },
    journal: join(home, 'host', 'journal'),
    pace: (stepMs) => process.tell(toPaceMessage(stepMs)),
    async restartForgetting() {
      await process.end()
      rmSync(join(home, 'host', 'adapters'), { recursive: true, force: true })
      await process.start()
    },
  }
}
