/**
 * The peer, in a process of its own: node-llama-cpp, used as its documentation says. Requests that
 * share an adapter are sequences of one context and are batched; an adapter belongs to a context,
 * so requests with adapters of their own need a context each.
 */
import type { FromPeer, PeerSetup, ToPeer, Workload } from './protocol.ts'

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

class Peer {
  readonly #setup: PeerSetup
  readonly #model: PeerModel

  constructor(setup: PeerSetup, model: PeerModel) {
    this.#setup = setup
    this.#model = model
  }

  static async open(setup: PeerSetup): Promise<Peer> {
    const { getLlama } = (await import(setup.entry)) as PeerModule
    const llama = await getLlama({
      build: 'never',
      gpu: false,
      maxThreads: setup.threads,
      logLevel: 'error',
    })
    return new Peer(setup, await llama.loadModel({ modelPath: setup.modelPath }))
  }

  /**
   * Completion tokens per second of N requests at once. Contexts are made before the clock runs.
   */
  async run(workload: Workload): Promise<number> {
    const { adapterPaths, completionTokens, threads } = this.#setup
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
    else await open(adapterPaths.length, workload === 'same' ? adapterPaths[0] : undefined)
    const startedAt = performance.now()
    await Promise.all(sequences.map((sequence, index) => this.#generate(sequence, index)))
    const seconds = (performance.now() - startedAt) / 1000
    for (const context of contexts) await context.dispose()
    return (sequences.length * completionTokens) / seconds
  }

  async #generate(sequence: PeerSequence, index: number): Promise<void> {
    const { promptTokens, completionTokens } = this.#setup
    const prompt = Array.from({ length: promptTokens }, (_, i) => 300 + index * 31 + i)
    let generated = 0
    for await (const _ of sequence.evaluate(prompt, ALL_TOKENS)) {
      generated += 1
      if (generated === completionTokens) return
    }
    throw new Error('the peer ended early')
  }
}

let peer: Peer | null = null

async function answer(message: ToPeer): Promise<FromPeer> {
  if (message.type === 'setup') {
    peer = await Peer.open(message.setup)
    return { type: 'ready' }
  }
  if (peer === null) throw new Error('run before setup')
  return { type: 'result', tokensPerSecond: await peer.run(message.workload) }
}

process.on('message', (message: ToPeer) => {
  answer(message).then(
    (reply) => process.send?.(reply),
    (error: unknown) => process.send?.({ type: 'failed', message: String(error) }),
  )
})
