/** What a model writes under a grammar: drawn at random by the real engine on the tiny model. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { NativeEngine } from '../../../native/index.ts'
import { GREEDY } from '../../../native/test/support/requests.ts'
import { openTinyEngine, rowsOf } from '../../../native/test/support/tiny-engine.ts'

const PROMPT = [50, 51, 52]
const TOKENS_MAX = 400
/** Added to the logits of these texts' tokens: random texts would hardly end otherwise. */
const CLOSING: Readonly<Record<string, number>> = { '"': 9, '}': 9, ']': 9 }

export class SampledTexts {
  readonly #directory: string
  readonly #engine: NativeEngine

  private constructor(directory: string, engine: NativeEngine) {
    this.#directory = directory
    this.#engine = engine
  }

  static async open(): Promise<SampledTexts> {
    const directory = mkdtempSync(join(tmpdir(), 'nozzle-sampled-'))
    return new SampledTexts(directory, await openTinyEngine(directory, { contextLength: 512 }))
  }

  async close(): Promise<void> {
    await this.#engine.close()
    rmSync(this.#directory, { recursive: true })
  }

  /** The whole text, or null when it was cut for length. */
  async write(
    grammar: string,
    seed: number,
    likely: Readonly<Record<string, number>> = CLOSING,
  ): Promise<string | null> {
    const engine = this.#engine
    const sampling = { ...GREEDY, temperature: 2, seed, grammar, logit_bias: this.#bias(likely) }
    engine.openSequence(0, { sampling, topLogprobs: -1, promptTokens: new Int32Array(0) })
    const bytes: number[] = []
    let rows = rowsOf(0, PROMPT)
    for (let count = 0; count < TOKENS_MAX; count++) {
      const [sampled] = (await engine.step(rows)).sampled
      if (!sampled || sampled.isNonFinite || sampled.isStuck) throw new Error('nothing was drawn')
      if (engine.isEndOfGeneration(sampled.token)) return Buffer.from(bytes).toString()
      bytes.push(...engine.tokenBytes(sampled.token))
      rows = rowsOf(0, [sampled.token], { position: PROMPT.length + count })
    }
    return null
  }

  #bias(likely: Readonly<Record<string, number>>): Record<string, number> {
    const options = { addSpecial: false, parseSpecial: false }
    const biases = Object.entries(likely).flatMap(([text, bias]) =>
      Array.from(this.#engine.tokenize(text, options), (token) => [token, bias] as const),
    )
    return Object.fromEntries(biases)
  }
}
