/**
 * A pool for tools that ask one over HTTP (evaluations, examples): the one that runs from the data
 * directory, or one that lives as long as the work does.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { callEdge } from '../lib/api-client.ts'
import { CliError } from '../lib/cli-error.ts'
import { locateDataDir, readDemoKey, readRunning } from '../lib/data-dir.ts'
import { modelList } from '../lib/edge-replies.ts'

const projectRoot = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

export interface PoolAccess {
  readonly edgeUrl: string
  readonly demoKey: string
  readonly baseModel: string
}

/** Rejects when no pool runs and none can be started; the reason is on stderr. */
export async function withPool<T>(
  work: (pool: PoolAccess) => Promise<T>,
  env: NodeJS.ProcessEnv = process.env,
): Promise<T> {
  const running = await findRunningPool(env)
  if (running) return work(running)
  const child = spawn(
    process.execPath,
    [
      '--disable-warning=ExperimentalWarning',
      join(projectRoot, 'scripts', 'task.ts'),
      ...['nozzle', 'up', '--json'],
    ],
    // The channel stops the pool when this process dies.
    { env: { NOZZLE_PORT: '0', ...env }, stdio: ['ignore', 'pipe', 'inherit', 'ipc'] },
  )
  if (child.stdout === null) throw new Error('stdout is a pipe')
  try {
    // The one line of data that `up --json` prints says that it serves.
    await Promise.race([
      once(createInterface({ input: child.stdout }), 'line'),
      once(child, 'exit'),
    ])
    const pool = await findRunningPool(env)
    if (!pool) throw new CliError('unavailable', 'no pool could be started; the reason is above')
    return await work(pool)
  } finally {
    if (child.exitCode === null && child.signalCode === null) {
      const gone = once(child, 'exit')
      child.kill('SIGTERM')
      await gone
    }
  }
}

/** null when none answers. */
async function findRunningPool(env: NodeJS.ProcessEnv): Promise<PoolAccess | null> {
  const dir = locateDataDir(env, projectRoot)
  const running = readRunning(dir)
  const demoKey = readDemoKey(dir)
  if (!running || !demoKey) return null
  const target = { edgeUrl: running.edge_url, apiKey: demoKey }
  try {
    await callEdge(target, { method: 'GET', path: '/v1/tenants/demo/models' }, modelList)
  } catch (error) {
    if (error instanceof CliError && error.reason === 'unavailable') return null
    throw error
  }
  return { edgeUrl: running.edge_url, demoKey, baseModel: running.base_model }
}
