/** A peer in a process of its own, as protocol.ts states: set up once, then one run at a time. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface, type Interface } from 'node:readline'
import type { Readable } from 'node:stream'
import {
  ANSWER_DESCRIPTOR,
  type Peer,
  type PeerAnswer,
  type PeerRun,
  type PeerSetup,
  peerAnswer,
  type Workload,
} from './protocol.ts'

export interface PeerCommand {
  readonly command: string
  readonly args: readonly string[]
  readonly env?: NodeJS.ProcessEnv
}

export class PeerProcess implements Peer {
  settings: Readonly<Record<string, unknown>> = {}
  readonly #child: ChildProcess
  readonly #answers: AsyncIterator<string>
  readonly #lines: Interface

  private constructor(child: ChildProcess) {
    this.#child = child
    // A peer that is gone shows at its answer, which does not come.
    child.stdin?.on('error', () => {})
    child.on('error', (error) => process.stderr.write(`bench: ${error.message}\n`))
    // Piped above, so it is there.
    this.#lines = createInterface({ input: child.stdio[ANSWER_DESCRIPTOR] as Readable })
    this.#answers = this.#lines[Symbol.asyncIterator]()
  }

  /** Rejects with the peer's own message when it cannot serve the model. */
  static async start(command: PeerCommand, setup: PeerSetup): Promise<PeerProcess> {
    const child = spawn(command.command, command.args, {
      stdio: ['pipe', 2, 2, 'pipe'],
      env: { ...process.env, ...command.env },
    })
    const peer = new PeerProcess(child)
    try {
      const answer = await peer.#ask(setup)
      if (!('ready' in answer)) throw new Error('the peer answered before it was asked')
      peer.settings = answer.ready
      return peer
    } catch (error) {
      await peer.stop()
      throw error
    }
  }

  async run(workload: Workload): Promise<PeerRun> {
    const answer = await this.#ask({ workload })
    if (!('run' in answer)) throw new Error('the peer did not answer with a run')
    return answer.run
  }

  async stop(): Promise<void> {
    await endProcess(this.#child)
    this.#lines.close()
  }

  async #ask(question: object): Promise<PeerAnswer> {
    this.#child.stdin?.write(`${JSON.stringify(question)}\n`)
    const line = await this.#answers.next()
    if (line.done) throw new Error('the peer process ended; its own message is above')
    const answer = peerAnswer.parse(JSON.parse(line.value))
    if ('failed' in answer) throw new Error(`the peer failed: ${answer.failed}`)
    return answer
  }
}

/** Ends a child process and waits for its end. */
export async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
  const exit = once(child, 'exit')
  child.kill('SIGKILL')
  await exit
}
