/**
 * The multi-LoRA engine for Node: opens a GGUF base model once, keeps adapters in slots, and runs
 * steps whose rows each name their own slot. All argument checks are here; C++ below trusts shapes.
 * JavaScript never waits inside a step: open, loadSlot and step run on other threads.
 */
import { createHash, randomInt } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { pipeline } from 'node:stream/promises'
import {
  type HandleInfo,
  loadBinding,
  type NativeBinding,
  type NativeHandle,
  type StepResult,
} from './binding.ts'
import { findCudaLibrary } from './cuda-library.ts'
import { EngineError, invalidArgument } from './engine-error.ts'
import { NATIVE_PATHS } from './paths.ts'
import { checkEqualLengths, requireInteger, requireText } from './validate.ts'

export { EngineError, type EngineErrorCode } from './engine-error.ts'

export interface NativeEngineOptions {
  /** GGUF file of a served architecture: llama, qwen2 or qwen3. */
  readonly modelPath: string
  /** Name served to clients. */
  readonly modelName: string
  /** `auto` is a CUDA device where there is one and its library was fetched, else the CPU. */
  readonly device: 'auto' | 'cpu' | 'cuda'
  /** `portable`: the graph in ggml's own operators, as on CUDA, on the CPU too. Absent = `auto`. */
  readonly graph?: 'auto' | 'portable'
  readonly slotCount: number
  readonly rankMax: number
  readonly sequenceCount: number
  /** Tokens of one sequence. */
  readonly contextLength: number
  /** KV cells of all sequences together, at least contextLength; 0 or absent = that for each. */
  readonly kvCells?: number
  /** Rows of one step. */
  readonly rowsMax: number
  /** 0 = one per core. */
  readonly threads: number
}

/** What the GGUF says of itself; null where it says nothing. */
export interface NativeEngineInfo
  extends Omit<
    HandleInfo,
    'slotBytes' | `page${string}` | 'chatTemplate' | `${'bos' | 'eos'}${'Token' | 'Text'}`
  > {
  readonly baseModel: string
  /** `sha256:<hex>` of the GGUF file. */
  readonly baseDigest: string
  readonly chatTemplate: string | null
  readonly bosToken: number | null
  readonly eosToken: number | null
  readonly bosText: string | null
  readonly eosText: string | null
}

export interface NativeEngineLimits {
  readonly slotCount: number
  readonly slotBytes: number
  readonly rankMax: number
  readonly sequenceCount: number
  readonly contextLength: number
  readonly rowsMax: number
  /** Pages of the KV pool, the cells (tokens) of each, and its bytes over all layers. */
  readonly pageCount: number
  readonly pageCells: number
  readonly pageBytes: number
}

/** Linear layers an adapter may change, in the order of the engine's target numbers. */
const TARGETS = [
  'attn_q',
  'attn_k',
  'attn_v',
  'attn_output',
  'ffn_gate',
  'ffn_up',
  'ffn_down',
] as const

/** An adapter in a slot's layout; offsets and sizes in bytes, see the pack format. */
export interface SlotImage {
  readonly manifest: {
    readonly modules: readonly {
      readonly layer: number
      readonly target: (typeof TARGETS)[number]
      readonly n_in: number
      readonly n_out: number
      readonly rank: number
      readonly a_offset: number
      readonly b_offset: number
      readonly scale: number
    }[]
  }
  readonly payload: Uint8Array
}

export interface NativeSamplingOptions {
  readonly temperature: number
  readonly top_p: number
  readonly top_k: number
  readonly min_p: number
  readonly frequency_penalty: number
  readonly presence_penalty: number
  readonly repetition_penalty: number
  /** null = drawn here. */
  readonly seed: number | null
  readonly logit_bias: Readonly<Record<string, number>>
  readonly grammar: string | null
}

export interface NativeSequenceOptions {
  readonly sampling: NativeSamplingOptions
  /** −1 = no logprobs; n ≥ 0 = the drawn token's and the n best. */
  readonly topLogprobs: number
  readonly promptTokens: Int32Array
  /**
   * Pages of its KV cells, of which the first `filledCells` (absent = 0) hold what the sequence's
   * first tokens left there under the same adapter. Absent = a stretch of its own that no other
   * sequence is given, for callers that share nothing.
   */
  readonly pages?: Int32Array
  readonly filledCells?: number
}

/** Parallel arrays, one entry per row. */
export interface NativeStepBatch {
  readonly tokens: Int32Array
  readonly positions: Int32Array
  readonly sequences: Int32Array
  readonly slots: Int32Array
  readonly outputs: Uint8Array
}

const INT32_MAX = 2 ** 31 - 1
const INT32_MIN = -(2 ** 31)
const OFFSET_MAX = Number.MAX_SAFE_INTEGER

interface ModuleTable {
  readonly fields: Float64Array
  readonly scales: Float32Array
}

export class NativeEngine {
  readonly info: NativeEngineInfo
  readonly limits: NativeEngineLimits
  readonly #handle: NativeHandle
  /** By manifest. */
  readonly #tables = new WeakMap<object, ModuleTable>()
  #inFlight = new Set<Promise<unknown>>()
  /** Payload → whether it could be pinned. */
  readonly #pinned = new Map<Uint8Array, Promise<boolean>>()

  private constructor(handle: NativeHandle, info: NativeEngineInfo, limits: NativeEngineLimits) {
    this.#handle = handle
    this.info = info
    this.limits = limits
  }

  /** Rejects with an EngineError: model_not_found, model_invalid, unsupported_architecture … */
  static async open(options: NativeEngineOptions): Promise<NativeEngine> {
    const { modelPath, modelName, device } = options
    requireText(modelPath, 'modelPath')
    requireText(modelName, 'modelName')
    const sizes = toSizes(options)
    const binding = requireBinding()
    if (!existsSync(modelPath)) {
      throw new EngineError('model_not_found', `modelPath: ${modelPath} does not exist`)
    }
    const digest = createHash('sha256')
    const [handle] = await Promise.all([
      binding.openEngine({
        modelPath,
        libraryDir: NATIVE_PATHS.libraryDir,
        cudaLibrary: device === 'cpu' ? '' : (findCudaLibrary() ?? ''),
        device,
        graph: options.graph ?? 'auto',
        ...sizes,
      }),
      pipeline(createReadStream(modelPath, { highWaterMark: 1 << 20 }), digest),
    ])
    const { slotBytes, pageCount, pageCells, pageBytes, ...about } = handle.info()
    const { threads: _, kvCells: __, ...limits } = sizes
    const info: NativeEngineInfo = {
      ...about,
      baseModel: modelName,
      baseDigest: `sha256:${digest.digest('hex')}`,
      chatTemplate: about.chatTemplate || null,
      bosToken: about.bosToken < 0 ? null : about.bosToken,
      eosToken: about.eosToken < 0 ? null : about.eosToken,
      bosText: about.bosText || null,
      eosText: about.eosText || null,
    }
    const pages = { pageCount, pageCells, pageBytes }
    return new NativeEngine(handle, info, { ...limits, slotBytes, ...pages })
  }

  tokenize(text: string, options: { addSpecial: boolean; parseSpecial: boolean }): Int32Array {
    if (typeof text !== 'string') throw invalidArgument('text must be a string')
    return this.#handle.tokenize(text, options.addSpecial, options.parseSpecial)
  }

  /** Raw bytes of a token's text; special tokens give none. */
  tokenBytes(token: number): Uint8Array {
    return this.#handle.tokenBytes(this.#requireToken(token))
  }

  isEndOfGeneration(token: number): boolean {
    return this.#handle.isEndOfGeneration(this.#requireToken(token))
  }

  /**
   * Copies an adapter into a slot, beside a running step. Rejects with pack_mismatch (the slot
   * keeps what it held) or slot_in_use.
   */
  async loadSlot(slot: number, image: SlotImage): Promise<void> {
    requireInteger(slot, 'slot', 1, this.limits.slotCount)
    const table = this.#tables.get(image.manifest) ?? toModuleTable(image.manifest)
    // Manifests do not change, and a swap from RAM comes with the one of last time.
    this.#tables.set(image.manifest, table)
    if (!(image.payload instanceof Uint8Array)) throw invalidArgument('payload must be bytes')
    await this.#track(this.#handle.loadSlot(slot, image.payload, table.fields, table.scales))
  }

  /**
   * For a payload that slots will be loaded from again: a GPU copies from pinned memory by itself
   * and fastest. Nothing on the CPU. Held, and not to be changed, until `unpin` or `close`.
   */
  pin(payload: Uint8Array): void {
    if (this.#pinned.has(payload)) return
    const pinned = this.#handle.pin(payload).catch(() => false)
    this.#pinned.set(payload, this.#track(pinned))
  }

  /** Waits for a load from it that is under way. Nothing where it is not pinned. */
  async unpin(payload: Uint8Array): Promise<void> {
    const pinned = this.#pinned.get(payload)
    this.#pinned.delete(payload)
    if (await pinned) this.#handle.unpin(payload)
  }

  clearSlot(slot: number): void {
    requireInteger(slot, 'slot', 1, this.limits.slotCount)
    this.#handle.clearSlot(slot)
  }

  /** Forgets the cells of an earlier use. Throws invalid_grammar, grammars_full; step_in_flight. */
  openSequence(sequence: number, options: NativeSequenceOptions): void {
    requireInteger(sequence, 'sequence', 0, this.limits.sequenceCount - 1)
    const { sampling, topLogprobs, promptTokens } = options
    requireInteger(topLogprobs, 'topLogprobs', -1, this.info.vocabularySize)
    const bias = Object.entries(sampling.logit_bias)
    this.#handle.openSequence(sequence, {
      temperature: sampling.temperature,
      topP: sampling.top_p,
      topK: sampling.top_k,
      minP: sampling.min_p,
      frequencyPenalty: sampling.frequency_penalty,
      presencePenalty: sampling.presence_penalty,
      repetitionPenalty: sampling.repetition_penalty,
      seed: sampling.seed ?? randomInt(2 ** 32),
      topLogprobs,
      grammar: sampling.grammar ?? '',
      biasTokens: Int32Array.from(bias, ([token]) => this.#requireToken(Number(token))),
      bias: Float32Array.from(bias, ([, value]) => value),
      prompt: promptTokens,
      pages: options.pages ?? this.#stretch(sequence),
      filledCells: options.filledCells ?? 0,
    })
  }

  /**
   * Gives an open sequence other pages between two steps; its sampler goes on. A page may stand in
   * the tables of several sequences as long as no step writes to it. Throws invalid_argument.
   */
  setPages(sequence: number, pages: Int32Array, filledCells: number): void {
    requireInteger(sequence, 'sequence', 0, this.limits.sequenceCount - 1)
    requireInteger(filledCells, 'filledCells', 0, this.limits.contextLength)
    if (!(pages instanceof Int32Array)) throw invalidArgument('pages must be an Int32Array')
    this.#handle.setPages(sequence, pages, filledCells)
  }

  closeSequence(sequence: number): void {
    requireInteger(sequence, 'sequence', 0, this.limits.sequenceCount - 1)
    this.#handle.closeSequence(sequence)
  }

  /** Runs the rows together. A refused batch (invalid_argument, slot_empty) changes nothing. */
  async step(batch: NativeStepBatch): Promise<StepResult> {
    checkEqualLengths(batch)
    const { tokens, positions, sequences, slots, outputs } = batch
    return this.#track(this.#handle.step(tokens, positions, sequences, slots, outputs))
  }

  /**
   * Waits for what runs, then frees everything. Idempotent; later calls fail with engine_closed.
   */
  async close(): Promise<void> {
    await Promise.all([...this.#pinned.keys()].map((payload) => this.unpin(payload)))
    while (this.#inFlight.size > 0) await Promise.allSettled(this.#inFlight)
    this.#handle.close()
  }

  async #track<T>(work: Promise<T>): Promise<T> {
    this.#inFlight.add(work)
    try {
      return await work
    } finally {
      this.#inFlight.delete(work)
    }
  }

  #stretch(sequence: number): Int32Array {
    const { contextLength, pageCells } = this.limits
    const count = Math.ceil(contextLength / pageCells)
    return Int32Array.from({ length: count }, (_, index) => sequence * count + index)
  }

  #requireToken(token: number): number {
    requireInteger(token, 'token', 0, this.info.vocabularySize - 1)
    return token
  }
}

/** As the addon takes it: seven numbers per module, and its scale. */
function toModuleTable(manifest: SlotImage['manifest']): ModuleTable {
  const { modules } = manifest
  const fields = new Float64Array(modules.length * 7)
  const scales = new Float32Array(modules.length)
  modules.forEach((module, index) => {
    const target = TARGETS.indexOf(module.target)
    if (target < 0) throw invalidArgument(`modules[${index}].target: unknown`)
    const { layer, n_in, n_out, rank, a_offset, b_offset } = module
    const where = `modules[${index}]`
    for (const [name, value] of Object.entries({ layer, n_in, n_out, rank })) {
      requireInteger(value, `${where}.${name}`, INT32_MIN, INT32_MAX)
    }
    for (const [name, value] of Object.entries({ a_offset, b_offset })) {
      requireInteger(value, `${where}.${name}`, -OFFSET_MAX, OFFSET_MAX)
    }
    fields.set([layer, target, n_in, n_out, rank, a_offset, b_offset], index * 7)
    scales[index] = module.scale
  })
  return { fields, scales }
}

/** Sizes of everything that is allocated at open; also bounds each, so that sums fit 64 bits. */
function toSizes(options: NativeEngineOptions) {
  const { slotCount, rankMax, sequenceCount, contextLength, rowsMax } = options
  requireInteger(slotCount, 'slotCount', 1, 65_536)
  requireInteger(rankMax, 'rankMax', 1, 4096)
  requireInteger(sequenceCount, 'sequenceCount', 1, 65_536)
  requireInteger(contextLength, 'contextLength', 1, INT32_MAX)
  requireInteger(rowsMax, 'rowsMax', 1, 65_536)
  const kvCells = options.kvCells ?? 0
  requireInteger(kvCells, 'kvCells', 0, Number.MAX_SAFE_INTEGER)
  requireInteger(options.threads, 'threads', 0, 1024)
  const threads = options.threads === 0 ? availableParallelism() : options.threads
  return { slotCount, rankMax, sequenceCount, contextLength, kvCells, rowsMax, threads }
}

let binding: NativeBinding | null = null

/** Loads the addon once; it is told of the error class it throws. */
function requireBinding(): NativeBinding {
  if (binding !== null) return binding
  if (!existsSync(NATIVE_PATHS.addonPath)) {
    throw new EngineError('engine_not_built', 'the native engine is not built: run `npm run setup`')
  }
  binding = loadBinding()
  binding.initialize(EngineError as new (code: string, message: string) => EngineError)
  return binding
}
