/**
 * `wrangler dev` on worker.ts: built as for a release, run in workerd. Not wrangler's in-process
 * test harness: it passes the Worker's own calls on through Node, and an abort of one is lost
 * there.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

export interface WorkerProcess {
  readonly url: string
  stop(): Promise<void>
}

const EDGE = join(import.meta.dirname, '..', '..')
const WRANGLER = join(EDGE, '..', 'node_modules', 'wrangler', 'bin', 'wrangler.js')

export async function startWorkerProcess(
  bindings: Readonly<Record<string, string>>,
): Promise<WorkerProcess> {
  const directory = mkdtempSync(join(tmpdir(), 'nozzle-worker-'))
  const secrets = join(directory, 'secrets.env')
  const lines = Object.entries(bindings).map(([name, value]) => `${name}="${value}"`)
  writeFileSync(secrets, lines.join('\n'), { mode: 0o600 })
  const options = ['--ip', '127.0.0.1', '--port', '0', '--inspector-port', '0']
  const child = spawn(
    process.execPath,
    [WRANGLER, 'dev', ...options, '--env-file', secrets, '--persist-to', directory],
    {
      cwd: EDGE,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        WRANGLER_SEND_METRICS: 'false',
        WRANGLER_LOG_PATH: directory,
        CI: '1',
      },
    },
  )
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM')
      await once(child, 'exit')
    }
    rmSync(directory, { recursive: true, force: true })
  }
  try {
    return { url: await readUrl(child), stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function readUrl(child: ChildProcess): Promise<string> {
  if (child.stdout === null || child.stderr === null) throw new Error('no output')
  const said: string[] = []
  child.stderr.on('data', (bytes) => said.push(String(bytes)))
  for await (const line of createInterface({ input: child.stdout })) {
    said.push(line)
    const [, url] = /Ready on (http:\S+)/.exec(line) ?? []
    if (url === undefined) continue
    child.stdout.resume()
    return url
  }
  throw new Error(`wrangler did not start:\n${said.join('\n')}`)
}
