/** The addon as C++ exports it: argument shapes and nothing more. Only index.ts calls it. */
import { createRequire } from 'node:module'
import { NATIVE_PATHS } from './paths.ts'

export interface OpenArguments {
  readonly modelPath: string
  readonly libraryDir: string
  /** ggml's CUDA library; empty = none. */
  readonly cudaLibrary: string
  readonly device: string
  readonly graph: string
  readonly slotCount: number
  readonly rankMax: number
  readonly sequenceCount: number
  readonly contextLength: number
  /** 0 = contextLength for each sequence. */
  readonly kvCells: number
  readonly rowsMax: number
  readonly threads: number
}

export interface HandleInfo {
  readonly architecture: string
  readonly device: string
  /** Empty = none. */
  readonly chatTemplate: string
  readonly bosText: string
  readonly eosText: string
  /** −1 = none. */
  readonly bosToken: number
  readonly eosToken: number
  readonly vocabularySize: number
  readonly embeddingLength: number
  readonly feedForwardLength: number
  readonly layerCount: number
  readonly headCount: number
  readonly headCountKv: number
  readonly headLength: number
  readonly contextLengthTrained: number
  readonly slotBytes: number
  readonly pageCount: number
  readonly pageCells: number
  readonly pageBytes: number
  readonly memory: MemoryPlan
}

/** Bytes of the device's memory: what was there at open, and what of it went where. */
export interface MemoryPlan {
  readonly weights: number
  readonly slots: number
  readonly kv: number
  readonly workspace: number
  /** What was foretold of `workspace` before anything was taken. */
  readonly workspaceMax: number
  readonly reserve: number
  readonly available: number
}

export interface SequenceArguments {
  readonly temperature: number
  readonly topP: number
  readonly topK: number
  readonly minP: number
  readonly frequencyPenalty: number
  readonly presencePenalty: number
  readonly repetitionPenalty: number
  readonly seed: number
  readonly topLogprobs: number
  /** Empty = none. */
  readonly grammar: string
  readonly biasTokens: Int32Array
  readonly bias: Float32Array
  readonly prompt: Int32Array
  readonly pages: Int32Array
  readonly filledCells: number
}

export interface StepResult {
  readonly sampled: readonly {
    readonly sequence: number
    readonly token: number
    readonly isNonFinite: boolean
    readonly isStuck: boolean
    readonly logprob: number | null
    readonly top: readonly { readonly token: number; readonly logprob: number }[]
  }[]
  readonly engineUs: number
}

export interface NativeHandle {
  info(): HandleInfo
  tokenize(text: string, addSpecial: boolean, parseSpecial: boolean): Int32Array
  tokenBytes(token: number): Uint8Array
  isEndOfGeneration(token: number): boolean
  /**
   * `fields`: layer, target, n_in, n_out, rank, a_offset, b_offset per module. Gives microseconds.
   */
  loadSlot(
    slot: number,
    payload: Uint8Array,
    fields: Float64Array,
    scales: Float32Array,
  ): Promise<number>
  clearSlot(slot: number): void
  /** Whether it is pinned now; the caller keeps the bytes until `unpin`. */
  pin(payload: Uint8Array): Promise<boolean>
  unpin(payload: Uint8Array): void
  openSequence(sequence: number, options: SequenceArguments): void
  setPages(sequence: number, pages: Int32Array, filledCells: number): void
  closeSequence(sequence: number): void
  step(
    tokens: Int32Array,
    positions: Int32Array,
    sequences: Int32Array,
    slots: Int32Array,
    outputs: Uint8Array,
  ): Promise<StepResult>
  close(): void
}

export interface NativeBinding {
  initialize(errorClass: new (code: string, message: string) => Error): void
  openEngine(options: OpenArguments): Promise<NativeHandle>
}

export function loadBinding(): NativeBinding {
  // require() is the one way to load an addon; its exports are what addon.cpp sets.
  return createRequire(import.meta.url)(NATIVE_PATHS.addonPath) as NativeBinding
}
