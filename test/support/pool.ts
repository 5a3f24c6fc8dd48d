/**
 * A real pool in a data directory of its own, started and stopped as a user does: the process of
 * `npm start`, its JSON line, signals. Where the base model already lies under its default name,
 * nothing is fetched.
 */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { z } from 'zod'
import type { ApiTarget } from '../../scripts/lib/api-client.ts'
import { callEdge } from '../../scripts/lib/api-client.ts'
import {
  type DataDir,
  locateDataDir,
  readDemoKey,
  readSecrets,
} from '../../scripts/lib/data-dir.ts'
import { readLogTail } from '../../scripts/up/log-file.ts'
import { type CliResult, PROJECT_ROOT, runTask, spawnTask } from './nozzle.ts'
import type { PoolHome } from './pool-home.ts'
import { findChildren, type PoolChildren } from './processes.ts'
import { until } from './until.ts'

const readyLine = z.object({
  status: z.literal('ready'),
  base_url: z.url(),
  base_model: z.string(),
  models: z.array(z.object({ name: z.string(), endpoint: z.url() })),
  curl: z.string(),
})

const hostView = z.object({
  data: z.array(z.object({ url: z.url(), epoch: z.int(), status: z.string() })),
})
export type HostView = z.infer<typeof hostView>['data'][number]

export interface Pool {
  readonly dir: DataDir
  readonly ready: z.infer<typeof readyLine>
  readonly edgeUrl: string
  readonly demoKey: string
  readonly operator: ApiTarget
  readonly supervisor: ChildProcess
  /** What the supervisor says on stderr, so far. */
  readonly notes: () => string
  children(): PoolChildren
  /** The one host, as the edge sees it. */
  host(): Promise<HostView>
  nozzle(...args: string[]): Promise<CliResult>
  /** SIGTERM; resolves to the exit code. */
  stop(): Promise<number | null>
}

/** `args`: what `nozzle up` is told besides. */
export async function startPool(
  { env }: Pick<PoolHome, 'env'>,
  args: readonly string[] = [],
): Promise<Pool> {
  const supervisor = spawnTask(['start', '--json', ...args], env)
  const dir = locateDataDir(env, PROJECT_ROOT)
  const notes: Buffer[] = []
  supervisor.stderr?.on('data', (chunk: Buffer) => notes.push(chunk))
  const noteText = (): string => Buffer.concat(notes).toString('utf8')
  const ready = await readReadyLine(supervisor, () => `${noteText()}\n${tailOf(dir)}`)
  const edgeUrl = new URL(ready.base_url).origin
  const demoKey = readDemoKey(dir)
  const operatorKey = readSecrets(dir)?.operator_key
  if (!demoKey || !operatorKey) throw new Error('a pool that serves has its keys on disk')
  const operator = { edgeUrl, apiKey: operatorKey }
  return {
    dir,
    ready,
    edgeUrl,
    demoKey,
    operator,
    supervisor,
    notes: noteText,
    children: () => findChildren(dir),
    async host() {
      const { data } = await callEdge(operator, { method: 'GET', path: '/v1/hosts' }, hostView)
      const [host] = data
      if (!host || data.length > 1) throw new Error(`${data.length} hosts, not one`)
      return host
    },
    nozzle: (...args) => runTask(['nozzle', ...args], env),
    stop: () => stopProcess(supervisor),
  }
}

/** Resolves once the edge takes requests for a host of this epoch. */
export function untilHostReady(pool: Pool, epoch: number): Promise<HostView> {
  return until(`a host of epoch ${epoch}`, async () => {
    const host = await pool.host().catch(() => null)
    return host?.epoch === epoch && host.status === 'ready' ? host : null
  })
}

async function readReadyLine(
  supervisor: ChildProcess,
  explain: () => string,
): Promise<z.infer<typeof readyLine>> {
  if (supervisor.stdout === null) throw new Error('stdout is piped')
  const lines = createInterface({ input: supervisor.stdout })
  const [line] = await Promise.race([once(lines, 'line'), once(lines, 'close')])
  if (typeof line !== 'string') throw new Error(`the pool did not start:\n${explain()}`)
  return readyLine.parse(JSON.parse(line))
}

function tailOf(dir: DataDir): string {
  return ['edge', 'host'].map((name) => readLogTail(join(dir.logs, `${name}.log`), 20)).join('\n')
}

export async function stopProcess(supervisor: ChildProcess): Promise<number | null> {
  if (supervisor.exitCode === null && supervisor.signalCode === null) {
    const gone = once(supervisor, 'exit')
    supervisor.kill('SIGTERM')
    await gone
  }
  return supervisor.exitCode
}
