/** A peer that is a server: a process, or several, whose output goes to a file. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { groupCpuMs } from '../pool/vitals.ts'

export interface ServerCommand {
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly logPath: string
  /** Answers 200 when it serves. */
  readonly readyUrl: string
}

const START_MS_MAX = 180_000
const LOOK_MS = 200
const LOG_CHARACTERS_TOLD = 2000

export class ServerProcess {
  readonly #child: ChildProcess

  private constructor(child: ChildProcess) {
    this.#child = child
  }

  /** Resolves when it serves. Rejects, with its last words, when it does not come to that. */
  static async start(server: ServerCommand): Promise<ServerProcess> {
    const { name, command, args, env, logPath, readyUrl } = server
    const log = openSync(logPath, 'a')
    const child = spawn(command, args, {
      env: { ...process.env, ...env },
      stdio: ['ignore', log, log],
      // A group of its own, so that its workers go with it.
      detached: true,
    })
    closeSync(log)
    child.on('error', () => {})
    const started = new ServerProcess(child)
    const untilMs = performance.now() + START_MS_MAX
    while (!(await isServing(readyUrl))) {
      if (!started.#isRunning || performance.now() > untilMs) {
        await started.stop()
        const said = readFileSync(logPath, 'utf8').slice(-LOG_CHARACTERS_TOLD)
        throw new Error(`${name} did not start: ${said}`)
      }
      await sleep(LOOK_MS)
    }
    return started
  }

  /** CPU time of it and its workers, milliseconds. */
  cpuMs(): number {
    return groupCpuMs(this.#child.pid ?? 0)
  }

  async stop(): Promise<void> {
    const { pid } = this.#child
    if (pid === undefined || !this.#isRunning) return
    const gone = once(this.#child, 'exit')
    process.kill(-pid, 'SIGKILL')
    await gone
  }

  get #isRunning(): boolean {
    const { pid, exitCode, signalCode } = this.#child
    return pid !== undefined && exitCode === null && signalCode === null
  }
}

function isServing(url: string): Promise<boolean> {
  return fetch(url, { signal: AbortSignal.timeout(2000) }).then(
    async (response) => {
      await response.body?.cancel()
      return response.status === 200
    },
    () => false,
  )
}
