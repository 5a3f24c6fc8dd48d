/**
 * Edge and hosts as children of this process. Start: edge → hosts → first heartbeats. Stop, the
 * other way round: hosts drain and ship their usage while the edge still takes it.
 */
import { mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ApiTarget, callEdge } from '../lib/api-client.ts'
import { CliError } from '../lib/cli-error.ts'
import { hostList } from '../lib/edge-replies.ts'
import { type PoolSettings, toEdgeEnv, toHostEnv } from './child-env.ts'
import { SupervisedProcess } from './child-process.ts'
import { dropPlanned, hostHome, type PlannedHost, planPath, readHostPlan } from './host-plan.ts'
import { childMark, recordChildren } from './leftover-children.ts'

const HEARTBEAT_POLL_MS = 50
const PLAN_POLL_MS = 250
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
  readonly #hosts = new Map<string, { process: SupervisedProcess; restarts: number }>()

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
      const entry = this.#options.env.NOZZLE_EDGE_ENTRY || join('edge', 'node.ts')
      const edge = this.#supervise('edge', entry, (boundUrl) => toEdgeEnv(this.#options, boundUrl))
      const edgeUrl = await untilAborted(edge.ready, signal)
      const plan = readHostPlan(this.#options.dir)
      const hosts = plan.map((planned) => this.#addHost(edgeUrl, planned, plan.length))
      for (const [i, host] of hosts.entries()) {
        try {
          await this.#waitForHost(edgeUrl, host, signal)
        } catch (error) {
          // The pool goes on without a further host, as it does when one is added while it runs.
          if (i === 0 || signal.aborted || !(error instanceof CliError)) throw error
          this.#noteMissing(host.name, error)
        }
      }
      return edgeUrl
    } finally {
      clearInterval(reminder)
    }
  }

  /** Does what commands write into the plan of hosts, until `signal` aborts. Never rejects. */
  async followPlan(edgeUrl: string, signal: AbortSignal): Promise<void> {
    const { dir, note } = this.#options
    while (!signal.aborted) {
      try {
        await this.#follow(edgeUrl, readHostPlan(dir))
      } catch (error) {
        note(`the plan of hosts is not followed: ${error instanceof Error ? error.message : error}`)
      }
      await sleep(PLAN_POLL_MS, undefined, { signal }).catch(() => {})
    }
  }

  async #follow(edgeUrl: string, plan: readonly PlannedHost[]): Promise<void> {
    for (const planned of plan) {
      const known = this.#hosts.get(planned.name)
      if (known === undefined) {
        this.#options.note(`${planned.name}: starting`)
        const { ready } = this.#addHost(edgeUrl, planned, plan.length)
        ready.catch((error: unknown) => this.#giveUp(planned.name, error))
      } else if (planned.restarts > known.restarts) {
        this.#hosts.set(planned.name, { ...known, restarts: planned.restarts })
        known.process.restart()
      }
    }
    const names = new Set(plan.map(({ name }) => name))
    for (const [name, { process }] of this.#hosts) {
      if (names.has(name)) continue
      this.#options.note(`${name}: ending`)
      this.#hosts.delete(name)
      await process.stop(this.#options.hurry)
      this.#children.splice(this.#children.indexOf(process), 1)
    }
  }

  /** Of a host that was added just now: `nozzle host add` sees its entry go, and says why. */
  #giveUp(name: string, error: unknown): void {
    const { dir, note } = this.#options
    // Ended on purpose.
    if (error instanceof CliError && error.reason === 'interrupted') return
    const reason = error instanceof Error ? error.message : String(error)
    try {
      dropPlanned(dir, name)
      note(`${reason}; taken out of ${planPath(dir)}`)
    } catch (cause) {
      note(
        `${reason}; not taken out of the plan: ${cause instanceof Error ? cause.message : cause}`,
      )
    }
  }

  #noteMissing(name: string, { message, fix }: CliError): void {
    const { dir, note } = this.#options
    note(`WARNING: the pool starts without ${name}: ${message}`)
    if (fix !== null) note(`  ${fix}`)
    note(`  If it is not wanted, take the entry "${name}" out of ${planPath(dir)}`)
  }

  #addHost(edgeUrl: string, planned: PlannedHost, hosts: number): SupervisedProcess {
    mkdirSync(hostHome(this.#options.dir, planned.name), { recursive: true, mode: 0o700 })
    const process = this.#supervise(planned.name, join('gpu-host', 'index.ts'), () =>
      toHostEnv(this.#options, edgeUrl, planned, hosts),
    )
    this.#hosts.set(planned.name, { process, restarts: planned.restarts })
    return process
  }

  /** Resolves when all have gone; safe at any time, also during `start`. */
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
      entry: resolve(projectRoot, entry),
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

  async #waitForHost(edgeUrl: string, host: SupervisedProcess, signal: AbortSignal): Promise<void> {
    const hostUrl = await untilAborted(host.ready, signal)
    const target: ApiTarget = { edgeUrl, apiKey: this.#options.secrets.operator_key }
    const deadline = performance.now() + HEARTBEAT_WAIT_MAX_MS
    while (performance.now() < deadline) {
      const hosts = await callEdge(target, { method: 'GET', path: '/v1/hosts', signal }, hostList)
      if (hosts.data.some(({ url, status }) => url === hostUrl && status !== 'silent')) return
      await sleep(HEARTBEAT_POLL_MS, undefined, { signal })
    }
    const log = join(this.#options.dir.logs, `${host.name}.log`)
    throw new CliError('unexpected', `the edge hears nothing from ${host.name}`, `Look at ${log}.`)
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
