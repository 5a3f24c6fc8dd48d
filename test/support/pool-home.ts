/**
 * Where a pool lives, over all its starts and stops: a data directory that finds the base model in
 * its place, and, where the edge is the Worker, a PostgreSQL and the bundle of the Worker.
 */
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  findPostgres,
  type PostgresServer,
  startPostgres,
} from '../../db/test/support/postgres-server.ts'
import { buildWorker } from '../../edge/test/support/worker-bundle.ts'
import { DEFAULT_BASE_MODEL } from '../../scripts/setup/base-model.ts'
import { requireBaseModel } from './base-model-path.ts'
import { PROJECT_ROOT } from './nozzle.ts'

/** What an edge runs on: its process on Node, or the Worker in workerd. */
export type EdgeRuntime = 'node' | 'workerd'

export interface PoolHome {
  readonly directory: string
  /** What a start in it, and the CLI, are told. */
  readonly env: Readonly<Record<string, string>>
  /** Once no pool runs in it. */
  remove(): Promise<void>
}

export const EDGE_ENTRIES: Readonly<Record<EdgeRuntime, string>> = {
  node: join('edge', 'node.ts'),
  workerd: join('edge', 'test', 'support', 'worker-edge.ts'),
}

const WORKER_ENTRY = join(PROJECT_ROOT, EDGE_ENTRIES.workerd)

/** What a cluster of `bench/pool/` is told, so that its edges are such; fills `directory`. */
export async function clusterEdges(edge: EdgeRuntime, directory: string) {
  if (edge === 'node') return {}
  await buildWorker(directory)
  return { edgeEntry: WORKER_ENTRY, edgeEnv: { NOZZLE_WORKER_BUNDLE: directory } }
}

/** One engine thread: cores are shared with the tests, and with whatever else runs there. */
export function poolEnv(directory: string): Record<string, string> {
  return { NOZZLE_DATA_DIR: directory, NOZZLE_PORT: '0', NOZZLE_THREADS: '1' }
}

/** For tools: a chat template that knows them, and without them is the base model's own. */
export const TOOLS_ENV = {
  NOZZLE_CHAT_TEMPLATE: join(PROJECT_ROOT, 'examples/chat-templates/smollm2-tools.jinja'),
}

/** Puts the base model where a first start in that data directory would put it. */
export function linkBaseModel(directory: string): void {
  mkdirSync(join(directory, 'models'), { recursive: true })
  const modelPath = join(directory, 'models', DEFAULT_BASE_MODEL.file)
  symlinkSync(realpathSync(requireBaseModel()), modelPath)
}

/** Rejects with wrangler's words where the Worker does not bundle. */
export async function createPoolHome(edge: EdgeRuntime = 'node'): Promise<PoolHome> {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'nozzle-pool-')))
  linkBaseModel(directory)
  const env = poolEnv(directory)
  let server: PostgresServer | null = null
  const remove = async (): Promise<void> => {
    await server?.stop()
    rmSync(directory, { recursive: true, force: true })
  }
  if (edge === 'node') return { directory, env, remove }
  try {
    const bundle = join(directory, 'worker')
    server = await startPostgres(findPostgres() ?? '')
    await buildWorker(bundle)
    const worker = {
      NOZZLE_EDGE_ENTRY: WORKER_ENTRY,
      NOZZLE_WORKER_BUNDLE: bundle,
      NOZZLE_DATABASE_URL: server.url,
    }
    return { directory, env: { ...env, ...worker }, remove }
  } catch (error) {
    await remove()
    throw error
  }
}
