/** The real vLLM as a server process, on the CPU: started, killed without warning, once more. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { ensureVllm, vllmEnv } from '../peers/vllm.ts'

export interface ServerSetup {
  readonly basePath: string
  readonly port: number
  /** Its output goes there. */
  readonly logPath: string
  readonly maxLoras: number
  readonly maxCpuLoras: number
  readonly maxRank: number
  readonly maxSequences: number
}

const START_MAX_MS = 600_000
const LOOK_MS = 500

const models = z.object({
  data: z.array(z.object({ id: z.string(), parent: z.string().nullish() })),
})

export class VllmServer {
  readonly url: string
  readonly #setup: ServerSetup
  #process: ChildProcess | null = null

  constructor(setup: ServerSetup) {
    this.#setup = setup
    this.url = `http://127.0.0.1:${setup.port}`
  }

  /** Resolves when it serves. */
  async start(): Promise<void> {
    const { basePath, port, logPath, maxLoras, maxCpuLoras, maxRank, maxSequences } = this.#setup
    const log = openSync(logPath, 'a')
    const flags = {
      ...{ model: basePath, 'served-model-name': 'tiny', host: '127.0.0.1', port },
      // F32, in which its greedy answers are those of transformers.
      ...{ dtype: 'float32', 'max-model-len': 512 },
      ...{ 'max-loras': maxLoras, 'max-cpu-loras': maxCpuLoras, 'max-lora-rank': maxRank },
      'max-num-seqs': maxSequences,
    }
    const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)])
    const switches = ['--enable-lora', '--enforce-eager', '--enable-prompt-tokens-details']
    this.#process = spawn(
      ensureVllm(),
      ['-m', 'vllm.entrypoints.openai.api_server', ...args, ...switches],
      {
        env: { ...process.env, ...vllmEnv(2), VLLM_ALLOW_RUNTIME_LORA_UPDATING: 'True' },
        stdio: ['ignore', log, log],
        // A group of its own, so that its engine process goes with it.
        detached: true,
      },
    )
    closeSync(log)
    const untilMs = performance.now() + START_MAX_MS
    while (!(await this.#isHealthy())) {
      if (this.#process.exitCode !== null || performance.now() > untilMs) {
        throw new Error(`vLLM did not start; see ${logPath}`)
      }
      await sleep(LOOK_MS)
    }
  }

  /** As when the machine takes it: no farewell to anybody. */
  async kill(): Promise<void> {
    const child = this.#process
    this.#process = null
    if (child?.pid === undefined || child.exitCode !== null) return
    const gone = once(child, 'exit')
    process.kill(-child.pid, 'SIGKILL')
    await gone
  }

  /** Names of the adapters that it has registered. */
  async adapters(): Promise<string[]> {
    const response = await fetch(`${this.url}/v1/models`)
    const { data } = models.parse(await response.json())
    return data.filter(({ parent }) => parent != null).map(({ id }) => id)
  }

  async #isHealthy(): Promise<boolean> {
    return fetch(`${this.url}/health`).then(
      ({ ok }) => ok,
      () => false,
    )
  }
}
