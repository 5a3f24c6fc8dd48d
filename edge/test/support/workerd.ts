/**
 * A bundled Worker in workerd, the runtime of Cloudflare's network: one isolate, which clients
 * reach without anything between. Not `wrangler dev`: that puts Workers of its own before it, and
 * what those do not pass on (a client that leaves) is lost.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Readable } from 'node:stream'
import { z } from 'zod'
import type { WorkerBundle } from './worker-bundle.ts'

export interface WorkerdOptions {
  readonly bundle: WorkerBundle
  /** Vars and secrets. */
  readonly bindings: Readonly<Record<string, string>>
  /** 0 = any free one. */
  readonly port?: number
  /** Takes what the Worker and the runtime say; absent = nobody does. */
  readonly onOutput?: (bytes: Buffer) => void
}

export interface Workerd {
  readonly url: string
  readonly pid: number
  /** Sends a request whose client leaves after so long; throws when the reply began before. */
  leave(path: string, init: RequestInit, afterMs: number): Promise<void>
  /** Resolves when the process has gone, whyever. */
  readonly gone: Promise<unknown>
  /** As the cron trigger; resolves when the Worker has done what it does then. */
  fireCron(): Promise<void>
  /** SIGTERM: no new connections, requests under way end. Resolves when it has gone. */
  stop(): Promise<void>
}

const CONFIG = 'workerd.capnp'
const WORDS_KEPT = 20
/** After so many milliseconds. */
const LEAVE_HEADER = 'x-leave-after-ms'
const LEFT = 499
/** A version's id, which Cloudflare draws at each upload. */
const VERSION = { id: 'local-workerd', tag: '', timestamp: '1970-01-01T00:00:00.000Z' }
/** The trigger, as a Worker beside the one that it triggers. */
const CRON_SCRIPT = `export default {
  async fetch(request, env) {
    return new Response((await env.EDGE.scheduled({ cron: '* * * * *' })).outcome)
  },
}`
/**
 * A network that notices at once that a client leaves, also before its reply has begun, as
 * Cloudflare's does and workerd's own sockets do not.
 */
const NETWORK_SCRIPT = `export default {
  async fetch(request, env) {
    const signal = AbortSignal.timeout(Number(request.headers.get('${LEAVE_HEADER}')))
    try {
      return await env.EDGE.fetch(request, { signal })
    } catch {
      return new Response('the client left', { status: ${LEFT} })
    }
  },
}`

/**
 * The shell becomes workerd. What it leaves waits for the end of its standard input, which comes
 * when whoever started it dies, and kills workerd then.
 */
const TIED_TO_PARENT = `exec 9<&0
(read -r _ <&9; kill -KILL $$) >/dev/null 2>&1 3>&- &
exec "$0" "$@" 9<&- </dev/null`

const SOCKETS = ['edge', 'cron', 'network'] as const

const listening = z.object({ event: z.literal('listen'), socket: z.string(), port: z.int() })

/** Rejects, with its words, when it does not start. */
export async function startWorkerd(options: WorkerdOptions): Promise<Workerd> {
  const { bundle, onOutput } = options
  const directory = mkdtempSync(join(tmpdir(), 'nozzle-workerd-'))
  for (const name of [bundle.main, ...bundle.texts]) {
    cpSync(join(bundle.directory, name), join(directory, name))
  }
  writeFileSync(join(directory, CONFIG), toConfig(options), { mode: 0o600 })
  const argv = [findWorkerd(), 'serve', '--experimental', '--control-fd=3', CONFIG]
  const child = spawn('/bin/sh', ['-c', TIED_TO_PARENT, ...argv], {
    cwd: directory,
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
  })
  const gone = once(child, 'exit').then(() => {
    child.stdin.destroy()
    rmSync(directory, { recursive: true, force: true })
  })
  let words: string[] = []
  for (const output of [child.stdout, child.stderr]) {
    output.on('data', (bytes: Buffer) => {
      onOutput?.(bytes)
      words = [...words, String(bytes)].slice(-WORDS_KEPT)
    })
  }
  const ports = await Promise.race([readPorts(child), gone])
  const [edge, cron, network] = SOCKETS.map((name) => ports?.get(name))
  if (!edge || !cron || !network || child.pid === undefined) {
    throw new Error(`workerd did not start:\n${words.join('')}`)
  }
  return {
    url: `http://127.0.0.1:${edge}`,
    pid: child.pid,
    gone,
    async leave(path, init, afterMs) {
      const headers = new Headers(init.headers)
      headers.set(LEAVE_HEADER, String(afterMs))
      const response = await fetch(`http://127.0.0.1:${network}${path}`, { ...init, headers })
      await response.body?.cancel()
      if (response.status !== LEFT) throw new Error(`the reply came first: ${response.status}`)
    },
    async fireCron() {
      const outcome = await (await fetch(`http://127.0.0.1:${cron}`)).text()
      if (outcome !== 'ok') throw new Error(`the cron trigger ended with ${outcome}`)
    },
    async stop() {
      child.kill('SIGTERM')
      await gone
    },
  }
}

/** The one that wrangler brings. */
function findWorkerd(): string {
  const { resolve } = createRequire(import.meta.url)
  const load = createRequire(resolve('wrangler'))
  return z.object({ default: z.string() }).parse(load('workerd')).default
}

/** Null when it ends before it listens. */
async function readPorts(child: ChildProcess): Promise<Map<string, number> | null> {
  const control = child.stdio[3]
  if (!(control instanceof Readable)) throw new Error('the control channel is piped')
  const ports = new Map<string, number>()
  for await (const line of createInterface({ input: control })) {
    const { data } = listening.safeParse(JSON.parse(line))
    if (data !== undefined) ports.set(data.socket, data.port)
    if (ports.size === SOCKETS.length) {
      control.resume()
      return ports
    }
  }
  return null
}

function toConfig({ bundle, bindings, port = 0 }: WorkerdOptions): string {
  const texts = bundle.texts.map((name) => `(name = ${quote(name)}, text = embed ${quote(name)})`)
  const values = Object.entries(bindings).map(
    ([name, value]) => `(name = ${quote(name)}, text = ${quote(value)})`,
  )
  const flags = bundle.compatibilityFlags.map(quote).join(', ')
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "edge", worker = .edge),
    (name = "cron", worker = .cron),
    (name = "network", worker = .network),
    (name = "internet", network = (allow = ["public", "private"])),
  ],
  sockets = [
    (name = "edge", address = "127.0.0.1:${port}", http = (), service = "edge"),
    (name = "cron", address = "127.0.0.1:0", http = (), service = "cron"),
    (name = "network", address = "127.0.0.1:0", http = (), service = "network"),
  ],
);
const edge :Workerd.Worker = (
  modules = [
    (name = ${quote(bundle.main)}, esModule = embed ${quote(bundle.main)}),
    ${texts.join(',\n    ')}
  ],
  compatibilityDate = ${quote(bundle.compatibilityDate)},
  compatibilityFlags = [${flags}],
  bindings = [
    (name = "CF_VERSION_METADATA", json = ${quote(JSON.stringify(VERSION))}),
    ${values.join(',\n    ')}
  ],
);
const cron :Workerd.Worker = (
  modules = [(name = "cron.js", esModule = ${quote(CRON_SCRIPT)})],
  compatibilityDate = ${quote(bundle.compatibilityDate)},
  compatibilityFlags = ["service_binding_extra_handlers"],
  bindings = [(name = "EDGE", service = "edge")],
);
const network :Workerd.Worker = (
  modules = [(name = "network.js", esModule = ${quote(NETWORK_SCRIPT)})],
  compatibilityDate = ${quote(bundle.compatibilityDate)},
  bindings = [(name = "EDGE", service = "edge")],
);
`
}

/** Text of Cap'n Proto, whose escapes for what can be here are JSON's. */
function quote(text: string): string {
  return JSON.stringify(text)
}
