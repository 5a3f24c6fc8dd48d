/**
 * The engine port: what the scheduler needs of whatever runs the model. One owner calls it (the
 * scheduler's loop); at most one `step` is in flight. Implemented by native/ (through
 * native-engine.ts) and by the deterministic fake in test/support.
 */
import type { PackManifest } from './adapters/adapter-pack.ts'
import type { SamplingOptions } from './protocol.ts'

export interface EngineInfo {
  /** Name served to clients, e.g. `smollm2-135m-instruct`. */
  readonly baseModel: string
  /** `sha256:<hex>` of the GGUF file. */
  readonly baseDigest: string
  readonly architecture: string
  readonly vocabularySize: number
  readonly embeddingLength: number
  readonly feedForwardLength: number
  readonly layerCount: number
  readonly headCount: number
  readonly headCountKv: number
  readonly headLength: number
  /** Positions the model was trained for. */
  readonly contextLengthTrained: number
  /** Jinja text; null when the GGUF carries none. */
  readonly chatTemplate: string | null
  readonly bosToken: number | null
  readonly eosToken: number | null
  /** The tokens' texts, as chat templates write them; absent or null = the template gets none. */
  readonly bosText?: string | null
  readonly eosText?: string | null
  readonly device: string
}

export interface EngineLimits {
  /** Adapter slots, not counting slot 0 (no adapter). Valid slots: 1 … slotCount. */
  readonly slotCount: number
  /** Bytes of one slot; a pack's payload may not exceed it. */
  readonly slotBytes: number
  readonly rankMax: number
  /** Valid sequences: 0 … sequenceCount − 1. */
  readonly sequenceCount: number
  /** Tokens of one sequence, prompt and completion together. */
  readonly contextLength: number
  /** Rows of one step. */
  readonly rowsMax: number
  /** Pages of the KV pool: enough for one whole context at least. Valid: 0 … pageCount − 1. */
  readonly pageCount: number
  /** Tokens of one page. */
  readonly pageCells: number
}

/** One engine call. Arrays are parallel, one entry per row; rows of one sequence stand in order. */
export interface StepBatch {
  readonly tokens: Int32Array
  readonly positions: Int32Array
  readonly sequences: Int32Array
  readonly slots: Int32Array
  /** 1 = sample a token after this row (the last row of a prompt, and every decode row). */
  readonly outputs: Uint8Array
}

export interface SampledToken {
  readonly sequence: number
  readonly token: number
  /** Set when the row's logits held NaN or Inf: the sequence must be failed, no token was drawn. */
  readonly isNonFinite: boolean
  /** Set when the grammar left no token, or was too ambiguous to tell: no token was drawn. */
  readonly isStuck: boolean
  /** Natural log probability of the token before sampling filters; null unless asked. */
  readonly logprob: number | null
  /** Most likely tokens, best first; empty unless asked. */
  readonly top: readonly { readonly token: number; readonly logprob: number }[]
}

export interface StepResult {
  /** One per row with `outputs` 1, in row order. */
  readonly sampled: readonly SampledToken[]
  /** Microseconds that the step took in the engine. */
  readonly engineUs: number
}

export interface SequenceOptions {
  readonly sampling: SamplingOptions
  /** −1 = no logprobs; n ≥ 0 = the drawn token's and the n best. */
  readonly topLogprobs: number
  /** Prompt tokens, for penalties. */
  readonly promptTokens: Int32Array
  /** Pages of its KV cells, and how many of the cells are filled; see `setPages`. */
  readonly pages: Int32Array
  readonly filledCells: number
}

/** An adapter in host RAM, in exactly a slot's layout. */
export interface AdapterImage {
  readonly manifest: PackManifest
  /** `manifest.payload_bytes` long. */
  readonly payload: Uint8Array
}

/** Errors carry a stable snake_case `code` (EngineError): match on it, never on the class. */
export interface Engine {
  readonly info: EngineInfo
  readonly limits: EngineLimits
  tokenize(text: string, options: { addSpecial: boolean; parseSpecial: boolean }): Int32Array
  /** Raw bytes of a token's text; special tokens give none. */
  tokenBytes(token: number): Uint8Array
  isEndOfGeneration(token: number): boolean
  /** Never stalls a running step; the slot must not be used by rows until it resolves. */
  loadSlot(slot: number, image: AdapterImage): Promise<void>
  clearSlot(slot: number): void
  /**
   * A payload that slots will be loaded from again; the engine may prepare it for fast copies, and
   * holds it until `unpin`. Its bytes do not change meanwhile.
   */
  pin(payload: Uint8Array): void
  /** Resolves when the engine no longer holds it. Nothing where it was not pinned. */
  unpin(payload: Uint8Array): Promise<void>
  /** Throws `invalid_grammar`, or `grammars_full` while others' take what there is for them. */
  openSequence(sequence: number, options: SequenceOptions): void
  /**
   * Gives an open sequence other pages; its sampler goes on. The first `filledCells` cells must
   * hold what the sequence's own tokens left there under the same adapter. Sequences may share
   * pages as long as no row writes to them: the step that would is refused.
   */
  setPages(sequence: number, pages: Int32Array, filledCells: number): void
  closeSequence(sequence: number): void
  step(batch: StepBatch): Promise<StepResult>
  close(): Promise<void>
}
