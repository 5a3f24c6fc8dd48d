/**
 * The peer llama-server: llama.cpp's own HTTP server, started with every adapter loaded and one
 * place per request. Each request names its adapter; those of different adapters it runs one after
 * the other.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Agent, request } from 'undici'
import { z } from 'zod'
import { ensureLlamaCppTool, LLAMA_RELEASE } from './llama-cpp-tools.ts'
import { endProcess } from './peer-process.ts'
import type { Peer, PeerRun, PeerSetup, Workload } from './protocol.ts'

const CONTEXT_TOKENS = 512
const START_TIMEOUT_MS = 120_000
const POLL_MS = 50

const completionReply = z.object({ tokens: z.array(z.int()) })

export class LlamaServer implements Peer {
  readonly settings: Readonly<Record<string, unknown>>
  readonly #child: ChildProcess
  readonly #url: string
  readonly #setup: PeerSetup
  readonly #agent: Agent

  private constructor(child: ChildProcess, url: string, setup: PeerSetup, args: readonly string[]) {
    this.#child = child
    this.#url = url
    this.#setup = setup
    this.#agent = new Agent({ connections: setup.prompts.length })
    this.settings = { release: LLAMA_RELEASE, arguments: args.join(' ') }
  }

  static async start(setup: PeerSetup): Promise<LlamaServer> {
    const tool = ensureLlamaCppTool('llama-server')
    const port = await pickPort()
    const places = setup.prompts.length
    const settings = [
      ...['--parallel', String(places), '--ctx-size', String(CONTEXT_TOKENS * places)],
      ...['--threads', String(setup.threads), '--threads-batch', String(setup.threads)],
      ...['--lora-init-without-apply', '--no-ui', '--cache-ram', '0', '--log-disable'],
    ]
    const files = ['--model', setup.modelPath, '--lora', setup.adapterPaths.join(',')]
    const address = ['--host', '127.0.0.1', '--port', String(port)]
    const child = spawn(tool.path, [...files, ...address, ...settings], {
      cwd: tool.cwd,
      stdio: ['ignore', 2, 2],
    })
    const server = new LlamaServer(child, `http://127.0.0.1:${port}`, setup, settings)
    try {
      await server.#waitUntilReady()
      return server
    } catch (error) {
      await server.stop()
      throw error
    }
  }

  async run(workload: Workload): Promise<PeerRun> {
    const { prompts, completionTokens } = this.#setup
    const startedAt = performance.now()
    const completions = await Promise.all(
      prompts.map((prompt, index) => {
        const adapter = workload === 'distinct' ? index : 0
        return this.#complete(prompt, workload === 'base' ? [] : [{ id: adapter, scale: 1 }])
      }),
    )
    const seconds = (performance.now() - startedAt) / 1000
    return { tokensPerSecond: (prompts.length * completionTokens) / seconds, completions }
  }

  async stop(): Promise<void> {
    await endProcess(this.#child)
    await this.#agent.close()
  }

  async #complete(prompt: number, lora: readonly { id: number; scale: number }[]) {
    const { statusCode, body } = await request(`${this.#url}/completion`, {
      method: 'POST',
      dispatcher: this.#agent,
      headers: { 'content-type': 'application/json' },
      // One sampler, and nothing in the reply but tokens: the least that it can have to do.
      body: JSON.stringify({
        prompt: [prompt],
        n_predict: this.#setup.completionTokens,
        temperature: 0,
        samplers: ['top_k'],
        top_k: 1,
        ignore_eos: true,
        cache_prompt: false,
        return_tokens: true,
        response_fields: ['tokens'],
        lora,
      }),
    })
    if (statusCode !== 200) throw new Error(`llama-server: ${statusCode} ${await body.text()}`)
    const { tokens } = completionReply.parse(await body.json())
    if (tokens.length === this.#setup.completionTokens) return tokens
    throw new Error(`llama-server made ${tokens.length} tokens`)
  }

  /** null while nobody listens. */
  async #health(): Promise<number | null> {
    try {
      const { statusCode, body } = await request(`${this.#url}/health`)
      await body.dump()
      return statusCode
    } catch {
      return null
    }
  }

  async #waitUntilReady(): Promise<void> {
    const deadline = performance.now() + START_TIMEOUT_MS
    while (performance.now() < deadline) {
      if (this.#child.exitCode !== null) throw new Error('llama-server ended; see above')
      const status = await this.#health()
      if (status === 200) return
      await sleep(POLL_MS)
    }
    throw new Error('llama-server was not ready in time')
  }
}

async function pickPort(): Promise<number> {
  const server = createServer()
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  server.on('error', reject)
  server.listen(0, '127.0.0.1', () => {
    const address = server.address()
    server.close(() => resolve(typeof address === 'object' && address ? address.port : 0))
  })
  return promise
}
