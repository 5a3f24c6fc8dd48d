/**
 * What `edge` measures, as processes: a PostgreSQL, the edge on Node and the edge in workerd, both
 * on that database, and one stub host that both know, with a tenant, a priced model and a key.
 */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { type NeonEndpoint, startNeonEndpoint } from '../../db/test/support/neon-endpoint.ts'
import {
  findPostgres,
  type PostgresServer,
  startPostgres,
} from '../../db/test/support/postgres-server.ts'
import { createApiKey } from '../../edge/auth/api-key.ts'
import { PoolClient, type TestTenant } from '../../edge/test/support/pool-client.ts'
import { CrashingProcess } from '../fault/crashing-process.ts'
import type { ServerProcess } from '../peers/server-process.ts'
import { cpuMs } from '../pool/vitals.ts'
import type { Call } from './caller.ts'
import type { Way } from './contest.ts'
import { CHAT_PATH, type StubOptions, stubMessage } from './stub-protocol.ts'
import { startWorkerd } from './workerd-edge.ts'

export interface EdgeRig {
  readonly tenant: TestTenant
  readonly databaseUrl: string
  /** OpenAI's API is below it, at /v1. */
  readonly hostUrl: string
  /** To the host itself. */
  readonly direct: Way
  readonly node: Way
  readonly workerd: Way
  /** Resolves when an edge has acknowledged all usage; how many answers the host settled. */
  settledByHost(): Promise<number>
  stop(): Promise<void>
}

const ROOT = join(import.meta.dirname, '..', '..')
const EDGE_ENTRY = join(ROOT, 'edge', 'node.ts')
const STUB_ENTRY = join(import.meta.dirname, 'stub-host.ts')
const SECRET = 'a secret of the edge bench that is long enough'
const BASE_MODEL = 'stub-base'
const MODEL = 'support'
const HOST_ID = 'hst_stub'
/** pico-USD a token. */
const PRICE = { prompt_pusd: '200000', cached_prompt_pusd: '100000', completion_pusd: '600000' }
const READY_MS_MAX = 30_000
const SHIPPED_MS_MAX = 60_000
const PAUSE_MS = 100

const health = z.object({ hosts_ready: z.int() })

/** Where each listens. */
export interface EdgePorts {
  readonly node: number
  readonly workerd: number
  readonly host: number
}

export interface EdgeRigOptions {
  readonly ports: EdgePorts
  /** For logs. */
  readonly directory: string
  /** Where the edge on Node leaves a CPU profile when it ends; null = it makes none. */
  readonly profileTo: string | null
}

export async function startEdgeRig({
  ports,
  directory,
  profileTo,
}: EdgeRigOptions): Promise<EdgeRig> {
  const binaries = findPostgres()
  if (binaries === null) throw new Error('this bench needs initdb and postgres in PATH')
  const parts = new Parts()
  try {
    // As shipped: what is charged is on the disk.
    parts.postgres = await startPostgres(binaries, { isDurable: true })
    const operatorKey = await createApiKey()
    const env = {
      NOZZLE_POOL_SECRET: SECRET,
      NOZZLE_KEY_PEPPER: SECRET,
      NOZZLE_OPERATOR_KEY: operatorKey,
      NOZZLE_BASE_MODEL_NAME: BASE_MODEL,
    }
    const nodeUrl = urlOf(ports.node)
    const workerdUrl = urlOf(ports.workerd)
    const hostUrl = urlOf(ports.host)
    // Migrates the database, which the Worker expects.
    const node = await parts.run(EDGE_ENTRY, [], join(directory, 'edge-node.log'), {
      ...env,
      NOZZLE_PORT: String(ports.node),
      ...(profileTo !== null && { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${profileTo}` }),
      NOZZLE_DATABASE_URL: parts.postgres.url,
    })
    parts.neon = await startNeonEndpoint(parts.postgres.url)
    const bindings = {
      ...env,
      NOZZLE_DATABASE_URL: 'postgres://user:secret@neon.test/nozzle',
      NOZZLE_NEON_FETCH_ENDPOINT: parts.neon.url,
    }
    const workerd = await startWorkerd({ port: ports.workerd, bindings, directory })
    parts.workerd = workerd
    const edgeUrls = [nodeUrl, workerdUrl]
    const stub = await startStub(parts, { port: ports.host, edgeUrls, directory })
    for (const url of edgeUrls) await untilReady(url)
    const tenant = await addTenant(new PoolClient(nodeUrl, operatorKey))
    const callTo = (origin: string): Call => ({
      origin,
      path: `/${tenant.name}/${MODEL}/v1/chat/completions`,
      headers: { authorization: `Bearer ${tenant.key}`, 'content-type': 'application/json' },
      model: MODEL,
    })
    return {
      ...{ tenant, hostUrl, databaseUrl: parts.postgres.url },
      direct: {
        name: 'direct',
        call: { ...callTo(hostUrl), path: CHAT_PATH },
        cpuMs: () => cpuMs(stub.pid),
      },
      node: { name: 'node', call: callTo(nodeUrl), cpuMs: () => cpuMs(node.pid) },
      workerd: { name: 'workerd', call: callTo(workerdUrl), cpuMs: () => workerd.cpuMs() },
      settledByHost: () => untilShipped(stub.books),
      stop: () => parts.stop(),
    }
  } catch (error) {
    await parts.stop()
    throw error
  }
}

/** What runs, to be ended in order. */
class Parts {
  postgres: PostgresServer | null = null
  neon: NeonEndpoint | null = null
  workerd: ServerProcess | null = null
  readonly #processes: CrashingProcess[] = []

  async run(
    entry: string,
    args: readonly string[],
    logPath: string,
    env: Readonly<Record<string, string>>,
    onMessage: (message: unknown) => void = () => {},
  ): Promise<CrashingProcess> {
    const process = new CrashingProcess({ entry, args, preload: [], env, logPath, onMessage })
    this.#processes.push(process)
    await process.start()
    return process
  }

  async stop(): Promise<void> {
    // In order: a profile is written at the end.
    await Promise.all(this.#processes.map((process) => process.end()))
    await this.workerd?.stop()
    await this.neon?.close()
    await this.postgres?.stop()
  }
}

type Books = z.infer<typeof stubMessage.books>

interface Stub {
  readonly pid: number
  readonly books: () => Promise<Books>
}

async function startStub(
  parts: Parts,
  {
    port,
    edgeUrls,
    directory,
  }: {
    readonly port: number
    readonly edgeUrls: readonly string[]
    readonly directory: string
  },
): Promise<Stub> {
  const options: StubOptions = {
    ...{
      port,
      poolSecret: SECRET,
      edgeUrls: [...edgeUrls],
      hostId: HOST_ID,
      baseModel: BASE_MODEL,
    },
    adapterDigest: `sha256:${createHash('sha256').update('bench').digest('hex')}`,
  }
  let tell = (_: Books): void => {}
  const args = [JSON.stringify(options)]
  const stub = await parts.run(
    STUB_ENTRY,
    args,
    join(directory, 'stub-host.log'),
    {},
    (message) => {
      const { data } = stubMessage.books.safeParse(message)
      if (data !== undefined) tell(data)
    },
  )
  const books = (): Promise<Books> =>
    new Promise((resolve) => {
      tell = resolve
      stub.tell({ type: 'books' })
    })
  return { pid: stub.pid, books }
}

function urlOf(port: number): string {
  return `http://127.0.0.1:${port}`
}

async function untilReady(url: string): Promise<void> {
  const deadlineMs = performance.now() + READY_MS_MAX
  for (;;) {
    const response = await fetch(`${url}/healthz`)
    if (health.parse(await response.json()).hosts_ready > 0) return
    if (performance.now() > deadlineMs) throw new Error(`${url} does not hear of its host`)
    await sleep(PAUSE_MS)
  }
}

async function untilShipped(books: () => Promise<Books>): Promise<number> {
  const deadlineMs = performance.now() + SHIPPED_MS_MAX
  for (;;) {
    const { settled, unshipped } = await books()
    if (unshipped === 0 || performance.now() > deadlineMs) return settled
    await sleep(PAUSE_MS)
  }
}

async function addTenant(client: PoolClient): Promise<TestTenant> {
  const tenant = await client.addTenant()
  await client.deploy(tenant, MODEL, 'weights')
  await client.admin('POST', '/v1/prices', { base_model: BASE_MODEL, ...PRICE })
  return tenant
}
