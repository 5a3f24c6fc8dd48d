/**
 * A PostgreSQL server that can be made to hang, die and come back on the same data, as the signals
 * of a machine do it. Linux only: whose child a process is, /proc says.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { type PostgresServer, startPostgres } from './postgres-server.ts'

const POLL_MS = 20
const READY_MS_MAX = 60_000

export class FailingPostgres {
  readonly url: string
  readonly #server: PostgresServer
  readonly #data: string
  /** Started here, after the first one was killed. */
  #again: ChildProcess | null = null

  private constructor(server: PostgresServer) {
    this.#server = server
    this.url = server.url
    const directory = new URL(server.url).searchParams.get('host')
    if (directory === null) throw new Error('the server names no directory in its URL')
    this.#data = join(directory, 'data')
  }

  static async start(binaries: string): Promise<FailingPostgres> {
    return new FailingPostgres(await startPostgres(binaries))
  }

  /** Every process of the server stops where it is: connections stay open and say nothing. */
  hang(): void {
    this.#signal('SIGSTOP')
  }

  wake(): void {
    this.#signal('SIGCONT')
  }

  /** Every process of the server is gone when it resolves. */
  async kill(): Promise<void> {
    const pids = this.#signal('SIGKILL')
    while (pids.some(isAlive)) await sleep(POLL_MS)
  }

  /** After `kill`. Resolves when statements are answered again. */
  async restart(): Promise<void> {
    const options = readFileSync(join(this.#data, 'postmaster.opts'), 'utf8')
    const [, command = '', quoted = ''] = /^(\S+) (.*)$/.exec(options.trim()) ?? []
    const parameters = [...quoted.matchAll(/"([^"]*)"/g)].map(([, text = '']) => text)
    const { uid, gid } = statSync(this.#data)
    const user = process.getuid?.() === 0 ? { uid, gid } : {}
    this.#again = spawn(command, parameters, {
      cwd: dirname(this.#data),
      stdio: 'ignore',
      ...user,
    })
    const deadline = performance.now() + READY_MS_MAX
    while (!(await this.#answers())) {
      if (performance.now() > deadline) throw new Error('the server does not come back')
      await sleep(POLL_MS)
    }
  }

  async stop(): Promise<void> {
    this.wake()
    const child = this.#again
    if (child !== null) {
      const gone = once(child, 'exit')
      child.kill('SIGINT')
      await gone
    }
    await this.#server.stop()
  }

  async #answers(): Promise<boolean> {
    const client = new pg.Client(this.url)
    client.on('error', () => {})
    try {
      await client.connect()
      await client.query('select 1')
      return true
    } catch {
      return false
    } finally {
      await client.end().catch(() => {})
    }
  }

  #signal(signal: NodeJS.Signals): number[] {
    const [line = ''] = readFileSync(join(this.#data, 'postmaster.pid'), 'utf8').split('\n')
    const parent = Number(line)
    // First, so that it starts no other child meanwhile.
    send(parent, signal)
    const children = childrenOf(parent)
    for (const pid of children) send(pid, signal)
    return [parent, ...children]
  }
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // It has ended.
  }
}

function childrenOf(parent: number): number[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  return pids.map(Number).filter((pid) => statOf(pid)?.parent === parent)
}

/** A killed child that nobody has asked for yet is dead. */
function isAlive(pid: number): boolean {
  return (statOf(pid)?.state ?? 'Z') !== 'Z'
}

/** null = there is no such process. */
function statOf(pid: number): { state: string; parent: number } | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The name in brackets may hold anything.
    const [state = '', parent = ''] = text.slice(text.lastIndexOf(')') + 2).split(' ')
    return { state, parent: Number(parent) }
  } catch {
    return null
  }
}
