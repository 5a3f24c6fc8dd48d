/** The peer's process as the benchmark sees it: set up once, then asked for one run at a time. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { FromPeer, PeerSetup, ToPeer, Workload } from './protocol.ts'

const ENTRY = fileURLToPath(new URL('./node-llama-cpp.ts', import.meta.url))

export class PeerProcess {
  readonly #child: ChildProcess

  private constructor(child: ChildProcess) {
    this.#child = child
  }

  static async start(setup: PeerSetup): Promise<PeerProcess> {
    const peer = new PeerProcess(fork(ENTRY, { stdio: ['ignore', 2, 2, 'ipc'] }))
    await peer.#ask({ type: 'setup', setup })
    return peer
  }

  /** Completion tokens per second. */
  async run(workload: Workload): Promise<number> {
    const reply = await this.#ask({ type: 'run', workload })
    if (reply.type !== 'result') throw new Error(`the peer answered ${reply.type}`)
    return reply.tokensPerSecond
  }

  stop(): void {
    this.#child.kill()
  }

  async #ask(message: ToPeer): Promise<FromPeer> {
    const gone = new AbortController()
    const exit = once(this.#child, 'exit', { signal: gone.signal }).then(() => {
      throw new Error('the peer process ended')
    })
    exit.catch(() => {})
    const reply = once(this.#child, 'message', { signal: gone.signal })
    this.#child.send(message)
    const [answer] = (await Promise.race([reply, exit])) as [FromPeer]
    gone.abort()
    if (answer.type === 'failed') throw new Error(`the peer failed: ${answer.message}`)
    return answer
  }
}
