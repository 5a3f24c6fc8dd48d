/**
 * A pool in one process: PGlite in memory with the real migrations, the edge on a real Node server,
 * real hosts with the fake engine. Everything a test does goes through HTTP.
 */
import { vi } from 'vitest'
import { type Database, openDatabase } from '../../../db/client.ts'
import {
  expectedTokens,
  type FakeEngineOptions,
} from '../../../gpu-host/test/support/fake-engine.ts'
import { createApp } from '../../app.ts'
import { createApiKey } from '../../auth/api-key.ts'
import { readEdgeConfig } from '../../config.ts'
import { createDeps, type Deps, type DepsInput } from '../../deps.ts'
import type { LogFields } from '../../log.ts'
import { readAssets } from '../../node-assets.ts'
import { nodeDigests } from '../../node-digests.ts'
import { type NodeServer, type NodeServerOptions, startNodeServer } from '../../node-server.ts'
import { createNodeTransport } from '../../node-transport.ts'
import { PoolClient } from './pool-client.ts'
import {
  type AdapterStore,
  type PoolHost,
  type PoolHostOptions,
  startPoolHost,
} from './pool-host.ts'
import { checkReplies } from './reply-check.ts'

export const POOL_SECRET = 'a pool secret that is long enough to be one'
export const KEY_PEPPER = 'a key pepper that is long enough to be one too'

const transport = createNodeTransport()

export class TestPool extends PoolClient {
  readonly database: Database
  readonly deps: Deps
  readonly server: NodeServer
  readonly hosts: PoolHost[] = []
  readonly store: AdapterStore = new Map()
  readonly logs: { message: string; fields: LogFields }[]
  /** Replies that the API document does not know. */
  readonly #findings: readonly string[]

  private constructor(
    database: Database,
    deps: Deps,
    server: NodeServer,
    operatorKey: string,
    logs: TestPool['logs'],
    findings: readonly string[],
  ) {
    super(server.url, operatorKey)
    this.database = database
    this.deps = deps
    this.server = server
    this.logs = logs
    this.#findings = findings
  }

  static async start({
    databaseUrl = 'pglite:memory',
    operatorKey: given,
    environment = {},
    server: serverOptions = {},
    ...options
  }: Partial<Pick<DepsInput, 'fetch' | 'patience' | 'monotonicMs'>> & {
    readonly databaseUrl?: string
    /** Absent = a new one. */
    readonly operatorKey?: string
    readonly environment?: Readonly<Record<string, string>>
    readonly server?: Partial<NodeServerOptions>
  } = {}): Promise<TestPool> {
    const database = await openDatabase(databaseUrl)
    await database.migrate()
    const operatorKey = given ?? (await createApiKey())
    const logs: TestPool['logs'] = []
    const deps = createDeps({
      config: readEdgeConfig({ ...edgeEnvironment(operatorKey), ...environment }),
      db: database.db,
      availability: database.availability,
      fetch: globalThis.fetch,
      log: (_level, message, fields) => logs.push({ message, fields: fields ?? {} }),
      nowMs: Date.now,
      assets: readAssets(),
      // As the edge on Node has it, where a test does not stand in for it.
      ...(options.fetch === undefined && { digests: nodeDigests, transport }),
      ...options,
    })
    const findings: string[] = []
    const fetch = checkReplies(createApp(deps).fetch, (finding) => findings.push(finding))
    const listening = { port: 0, address: '127.0.0.1', ...serverOptions }
    const server = await startNodeServer({ fetch }, listening)
    return new TestPool(database, deps, server, operatorKey, logs, findings)
  }

  /** Throws where a reply was not what the API document says. */
  async stop(): Promise<void> {
    for (const host of this.hosts.splice(0)) await host.stop()
    await this.server.stop(1000)
    await this.database.close()
    if (this.#findings.length > 0) throw new Error(this.#findings.slice(0, 5).join('\n'))
  }

  /** Resolves when the edge has heard of the host. */
  async addHost(
    options: Partial<Omit<PoolHostOptions, 'edgeUrl' | 'poolSecret' | 'store'>> & {
      readonly engine?: FakeEngineOptions
    } = {},
  ): Promise<PoolHost> {
    const host = await startPoolHost({
      ...options,
      edgeUrl: this.url,
      poolSecret: POOL_SECRET,
      store: this.store,
    })
    this.hosts.push(host)
    await until(() => {
      if (!this.deps.pool.known().some(({ url }) => url === host.host.url))
        throw new Error('no beat')
    })
    return host
  }
}

export function edgeEnvironment(operatorKey: string): Record<string, string> {
  return {
    NOZZLE_POOL_SECRET: POOL_SECRET,
    NOZZLE_KEY_PEPPER: KEY_PEPPER,
    NOZZLE_DATABASE_URL: 'pglite:memory',
    NOZZLE_OPERATOR_KEY: operatorKey,
    NOZZLE_BASE_MODEL_NAME: 'fake-base',
  }
}

/** Retries until `check` does not throw. */
export function until<T>(check: () => T | Promise<T>): Promise<T> {
  return vi.waitFor(check, { timeout: 10_000, interval: 10 })
}

/** What the fake engine says to one user message, given the adapter's weights or none. */
export function expectedReply(weights: string | null, message: string, tokens: number): string {
  const payload = weights === null ? null : Buffer.from(weights)
  const prompt = [...Buffer.from(`<user>${message}<assistant>`)]
  return String.fromCharCode(...expectedTokens(payload, prompt, { tokensMax: tokens }))
}

/** Prompt tokens of one user message with the fake engine. */
export function promptTokens(message: string): number {
  return Buffer.from(`<user>${message}<assistant>`).length
}
