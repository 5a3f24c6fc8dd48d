/**
 * The peer, in a process of its own: node-llama-cpp, used as its documentation says. Requests that
 * share an adapter are sequences of one context and are batched; an adapter belongs to a context,
 * so requests with adapters of their own need a context each.
 */
import { writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import {
  ANSWER_DESCRIPTOR,
  type PeerAnswer,
  type PeerRun,
  type PeerSetup,
  peerQuestion,
  peerSetup,
  type Workload,
} from './protocol.ts'

interface PeerSequence {
  evaluate(
    tokens: readonly number[],
    options: { temperature: number; yieldEogToken: true },
  ): AsyncGenerator<number, void, void>
}
interface PeerContext {
  getSequence(): PeerSequence
  dispose(): Promise<void>
}
interface PeerModel {
  createContext(options: {
    contextSize: number
    sequences: number
    threads: number
    lora?: string
  }): Promise<PeerContext>
}
/**
 * The part of the peer's interface that is used here; it is not installed when types are checked.
 */
interface PeerModule {
  getLlama(options: {
    build: 'never'
    gpu: false
    maxThreads: number
    logLevel: 'error'
  }): Promise<{ loadModel(options: { modelPath: string }): Promise<PeerModel> }>
}

const CONTEXT_TOKENS = 512
/** Greedy, and never ended by the model: every request makes the same number of tokens. */
const ALL_TOKENS = { temperature: 0, yieldEogToken: true } as const

class NodeLlamaCpp {
  readonly #setup: PeerSetup
  readonly #model: PeerModel

  constructor(setup: PeerSetup, model: PeerModel) {
    this.#setup = setup
    this.#model = model
  }

  static async open(entry: string, setup: PeerSetup): Promise<NodeLlamaCpp> {
    const { getLlama } = (await import(entry)) as PeerModule
    const llama = await getLlama({
      build: 'never',
      gpu: false,
      maxThreads: setup.threads,
      logLevel: 'error',
    })
    return new NodeLlamaCpp(setup, await llama.loadModel({ modelPath: setup.modelPath }))
  }

  /** N requests at once. Contexts are made before the clock runs. */
  async run(workload: Workload): Promise<PeerRun> {
    const { adapterPaths, completionTokens, threads, prompts } = this.#setup
    const contexts: PeerContext[] = []
    const sequences: PeerSequence[] = []
    const open = async (count: number, lora?: string): Promise<void> => {
      const context = await this.#model.createContext({
        contextSize: CONTEXT_TOKENS * count,
        sequences: count,
        threads,
        ...(lora === undefined ? {} : { lora }),
      })
      contexts.push(context)
      for (let i = 0; i < count; i++) sequences.push(context.getSequence())
    }
    if (workload === 'distinct') for (const path of adapterPaths) await open(1, path)
    else await open(prompts.length, workload === 'same' ? adapterPaths[0] : undefined)
    const startedAt = performance.now()
    const completions = await Promise.all(
      sequences.map((sequence, index) => this.#generate(sequence, prompts[index] ?? 0)),
    )
    const seconds = (performance.now() - startedAt) / 1000
    for (const context of contexts) await context.dispose()
    return { tokensPerSecond: (sequences.length * completionTokens) / seconds, completions }
  }

  async #generate(sequence: PeerSequence, prompt: number): Promise<number[]> {
    const completion: number[] = []
    for await (const token of sequence.evaluate([prompt], ALL_TOKENS)) {
      completion.push(token)
      if (completion.length === this.#setup.completionTokens) return completion
    }
    throw new Error('the peer ended early')
  }
}

let peer: NodeLlamaCpp | null = null

async function answer(line: string): Promise<PeerAnswer> {
  const message: unknown = JSON.parse(line)
  if (peer !== null) return { run: await peer.run(peerQuestion.parse(message).workload) }
  peer = await NodeLlamaCpp.open(process.argv[2] ?? '', peerSetup.parse(message))
  return { ready: { release: process.argv[3] } }
}

for await (const line of createInterface({ input: process.stdin })) {
  const reply = await answer(line).catch((error: unknown) => ({ failed: String(error) }))
  writeSync(ANSWER_DESCRIPTOR, `${JSON.stringify(reply)}\n`)
}
