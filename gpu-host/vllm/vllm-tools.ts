/**
 * Whether the server's chat template knows tools, asked once: it renders the probe to tokens, which
 * it is asked the text of. Its own reading of calls is not used, so it needs no flag for it.
 */
import { showsTools, TOOL_PROBE } from '../text/tool-probe.ts'
import type { VllmClient } from './vllm-client.ts'
import { VllmError } from './vllm-errors.ts'
import { toTokenizeInput } from './vllm-prompt.ts'

export class VllmTools {
  readonly #client: Pick<VllmClient, 'tokenize' | 'detokenize'>
  readonly #model: string
  #known: Promise<boolean> | null = null

  constructor(client: Pick<VllmClient, 'tokenize' | 'detokenize'>, model: string) {
    this.#client = client
    this.#model = model
  }

  /** Rejects when the server did not answer; it is asked again then. */
  areKnown(): Promise<boolean> {
    this.#known ??= this.#ask().catch((error: unknown) => {
      if (error instanceof VllmError && error.failure === 'refused') return false
      this.#known = null
      throw error
    })
    return this.#known
  }

  async #ask(): Promise<boolean> {
    const tokens = await this.#client.tokenize(this.#model, toTokenizeInput(TOOL_PROBE))
    return showsTools(await this.#client.detokenize(this.#model, tokens))
  }
}
