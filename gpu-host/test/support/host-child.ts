/** Host processes of a test, on the fake engine, in one directory; killed at its end. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type GenerateRequest, HOST_ROUTES } from '../../protocol.ts'
import { claimsOf, POOL_SECRET, signGrant } from './test-host.ts'

export interface HostChild {
  readonly child: ChildProcess
  readonly url: string
  /** Lines of its log so far; whole once it has exited. */
  readonly log: readonly string[]
}

export interface HostChildOptions {
  readonly env?: Record<string, string>
  /** Files of this folder that are loaded before it. */
  readonly preload?: readonly string[]
}

export class HostChildren {
  readonly directory: string = mkdtempSync(join(tmpdir(), 'nozzle-process-'))
  readonly #children: ChildProcess[] = []

  /** Resolves when it listens. */
  async start({ env = {}, preload = [] }: HostChildOptions = {}): Promise<HostChild> {
    const imports = preload.flatMap((name) => ['--import', join(import.meta.dirname, name)])
    const entry = join(import.meta.dirname, 'fake-host-process.ts')
    const child = spawn(process.execPath, [...imports, entry], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: {
        NOZZLE_POOL_SECRET: POOL_SECRET,
        NOZZLE_DATA_DIR: this.directory,
        NOZZLE_BASE_MODEL_PATH: 'none',
        NOZZLE_BASE_MODEL_NAME: 'fake-base',
        NOZZLE_DRAIN_GRACE_MS: '20000',
        ...env,
      },
    })
    this.#children.push(child)
    const log: string[] = []
    const lines = createInterface({ input: child.stderr })
    const url = await new Promise<string>((resolve, reject) => {
      lines.on('line', (line) => {
        log.push(line)
        const [, ready] = /"message":"host ready","url":"([^"]+)"/.exec(line) ?? []
        if (ready !== undefined) resolve(ready)
      })
      lines.on('close', () => reject(new Error(`the host did not start:\n${log.join('\n')}`)))
    })
    return { child, url, log }
  }

  async stop(): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    rmSync(this.directory, { recursive: true, force: true })
  }
}

export async function sendTo(url: string, request: GenerateRequest): Promise<Response> {
  const body = JSON.stringify(request)
  const body_sha256 = createHash('sha256').update(body).digest('hex')
  const grant = await signGrant({ ...claimsOf(request), body_sha256 })
  return fetch(url + HOST_ROUTES.generate, {
    method: 'POST',
    body,
    headers: { authorization: `Grant ${grant}` },
  })
}
