/**
 * Edge and one host as children of this process. Start: edge → host → first heartbeat accepted.
 * Stop, the other way round: the host drains and ships its usage while the edge still takes it.
 */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ApiTarget, callEdge } from '../lib/api-client.ts'
import { CliError } from '../lib/cli-error.ts'
import { hostList } from '../lib/edge-replies.ts'
import { type PoolSettings, toEdgeEnv, toHostEnv } from './child-env.ts'
import { SupervisedProcess } from './child-process.ts'
import { childMark, recordChildren } from './leftover-children.ts'

const HEARTBEAT_POLL_MS = 50
const HEARTBEAT_WAIT_MAX_MS = 30_000
/** A large base model takes a while to read: say so now and then. */
const STILL_STARTING_MS = 10_000

export interface PoolOptions extends PoolSettings {
  readonly projectRoot: string
  readonly note: (text: string) => void
  readonly hurry: AbortSignal
}

export class EmbeddedPool {
  readonly #options: PoolOptions
  readonly #children: SupervisedProcess[] = []

  constructor(options: PoolOptions) {
    this.#options = options
  }

  /** Resolves to where the edge listens once a request can be served. */
  async start(signal: AbortSignal): Promise<string> {
    const { note } = this.#options
    const reminder = setInterval(() => {
      note(`still starting; see ${this.#options.dir.logs}`)
    }, STILL_STARTING_MS)
    try {
      const edge = this.#supervise('edge', join('edge', 'node.ts'), (boundUrl) =>
        toEdgeEnv(this.#options, boundUrl),
      )
      const edgeUrl = await untilAborted(edge.ready, signal)
      const host = this.#supervise('host', join('gpu-host', 'index.ts'), () =>
        toHostEnv(this.#options, edgeUrl),
      )
      const hostUrl = await untilAborted(host.ready, signal)
      await this.#waitForHeartbeat(edgeUrl, hostUrl, signal)
      return edgeUrl
    } finally {
      clearInterval(reminder)
    }
  }

  /** Resolves when both have gone; safe at any time, also during `start`. */
  async stop(): Promise<void> {
    for (const child of this.#children.toReversed()) await child.stop(this.#options.hurry)
    recordChildren(this.#options.dir, [])
  }

  #supervise(
    name: string,
    entry: string,
    env: (boundUrl: string | null) => Record<string, string>,
  ): SupervisedProcess {
    const { dir, note, projectRoot } = this.#options
    const child: SupervisedProcess = new SupervisedProcess({
      name,
      entry: join(projectRoot, entry),
      args: [childMark(dir)],
      env,
      logPath: join(dir.logs, `${name}.log`),
      note,
      onStart: (pid) => {
        const others = this.#children.filter((other) => other.name !== name)
        recordChildren(dir, [pid, ...others.flatMap((other) => other.pid ?? [])])
      },
    })
    this.#children.push(child)
    return child
  }

  async #waitForHeartbeat(edgeUrl: string, hostUrl: string, signal: AbortSignal): Promise<void> {
    const target: ApiTarget = { edgeUrl, apiKey: this.#options.secrets.operator_key }
    const deadline = performance.now() + HEARTBEAT_WAIT_MAX_MS
    while (performance.now() < deadline) {
      const hosts = await callEdge(target, { method: 'GET', path: '/v1/hosts', signal }, hostList)
      if (hosts.data.some(({ url, status }) => url === hostUrl && status === 'ready')) return
      await sleep(HEARTBEAT_POLL_MS, undefined, { signal })
    }
    const log = join(this.#options.dir.logs, 'host.log')
    throw new CliError('unexpected', 'the edge hears nothing from the host', `Look at ${log}.`)
  }
}

async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  const aborted = Promise.withResolvers<never>()
  const abort = (): void => aborted.reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  try {
    return await Promise.race([promise, aborted.promise])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
