/**
 * A deterministic Engine without weights. The next token is a hash of the adapter payload that the
 * row's slot holds, of every token of the sequence so far and, above temperature 0, of the seed: a
 * wrong slot, a mixed-up sequence, a skipped or doubled row each change the output. It also refuses
 * what a real engine may crash on: rows out of order, closed sequences, slots that are empty or
 * being loaded, two steps at once. What a sequence has said is read from the cells of its pages, so
 * a wrong page changes the output too; a page of two sequences may not be written.
 *
 * Tokens 0 … 255 are bytes, 256 ends generation, 257 begins the text.
 */
import { createHash } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type {
  AdapterImage,
  Engine,
  EngineInfo,
  EngineLimits,
  SampledToken,
  SequenceOptions,
  StepBatch,
  StepResult,
} from '../../engine.ts'

export const FAKE_EOS = 256
export const FAKE_BOS = 257
const VOCABULARY = 258
const NO_ADAPTER = 'base'

export interface FakeEngineOptions {
  readonly limits?: Partial<EngineLimits>
  readonly info?: Partial<EngineInfo>
  /** Waits as long as a step takes; by default one turn of the event loop. */
  readonly delay?: (us: number) => Promise<void>
  readonly stepUs?: (rows: number) => number
  /** One token in so many ends generation; 0 = none. */
  readonly eosOneIn?: number
  /** What every answer is instead, a byte each token; then it ends. */
  readonly answer?: string
  /** Each token says its byte so many times; absent = once. */
  readonly repeats?: number
  /** Sees each batch before it runs; throws to reject the step. */
  readonly onStep?: (batch: StepBatch) => void
  /** Says that the logits of the row that follows `tokens` are not finite. */
  readonly isNonFinite?: (tokens: readonly number[]) => boolean
}

class FakeEngineError extends Error {
  readonly code: string
  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

interface FakeSequence {
  readonly options: SequenceOptions
  pages: readonly number[]
  filledCells: number
  slot: number | null
}

/** What a row left behind: its token, under its adapter. */
interface FakeCell {
  readonly token: number
  readonly identity: string
}

export class FakeEngine implements Engine {
  readonly info: EngineInfo
  readonly limits: EngineLimits
  readonly openSequences = new Map<number, FakeSequence>()
  readonly #options: FakeEngineOptions
  /** Payload hash by slot; absent = empty or being loaded. */
  readonly #slots = new Map<number, string>()
  readonly #cells = new Map<number, FakeCell>()
  #isStepping = false
  isClosed = false
  steps = 0

  constructor(options: FakeEngineOptions = {}) {
    this.#options = options
    const { sequenceCount = 8, contextLength = 512, pageCells = 16 } = options.limits ?? {}
    this.limits = {
      slotCount: 4,
      slotBytes: 1024 * 1024,
      rankMax: 64,
      sequenceCount,
      contextLength,
      rowsMax: 64,
      pageCount: sequenceCount * Math.ceil(contextLength / pageCells),
      pageCells,
      ...options.limits,
    }
    this.info = {
      baseModel: 'fake-base',
      baseDigest: `sha256:${'0'.repeat(64)}`,
      architecture: 'llama',
      vocabularySize: VOCABULARY,
      embeddingLength: 64,
      feedForwardLength: 128,
      layerCount: 2,
      headCount: 4,
      headCountKv: 2,
      headLength: 16,
      contextLengthTrained: 512,
      chatTemplate:
        '{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}' +
        '{% if add_generation_prompt %}<assistant>{% endif %}',
      bosToken: FAKE_BOS,
      eosToken: FAKE_EOS,
      device: 'fake',
      ...options.info,
    }
  }

  tokenize(text: string): Int32Array {
    return Int32Array.from(Buffer.from(text))
  }

  tokenBytes(token: number): Uint8Array {
    const { repeats = 1 } = this.#options
    return token < 256 ? new Uint8Array(repeats).fill(token) : new Uint8Array()
  }

  isEndOfGeneration(token: number): boolean {
    return token === FAKE_EOS
  }

  async loadSlot(slot: number, image: AdapterImage): Promise<void> {
    this.#assert(slot >= 1 && slot <= this.limits.slotCount, 'slot out of range')
    for (const sequence of this.openSequences.values()) {
      this.#assert(sequence.slot !== slot, 'a slot in use was loaded')
    }
    this.#slots.delete(slot)
    await nextTurn()
    this.#slots.set(slot, payloadIdentity(image.payload))
  }

  pin(): void {}

  async unpin(): Promise<void> {}

  clearSlot(slot: number): void {
    this.#slots.delete(slot)
  }

  openSequence(sequence: number, options: SequenceOptions): void {
    this.#assert(!this.#isStepping, 'a sequence was opened during a step')
    this.#assert(!this.openSequences.has(sequence), 'an open sequence was opened')
    this.#assert(sequence >= 0 && sequence < this.limits.sequenceCount, 'sequence out of range')
    if (options.sampling.grammar === 'invalid') {
      throw new FakeEngineError('invalid_grammar', 'the grammar cannot be parsed')
    }
    const { pages, filledCells } = options
    this.#checkPages(pages, filledCells)
    this.openSequences.set(sequence, { options, pages: [...pages], filledCells, slot: null })
  }

  setPages(sequence: number, pages: Int32Array, filledCells: number): void {
    this.#assert(!this.#isStepping, 'pages were changed during a step')
    const open = this.openSequences.get(sequence)
    if (open === undefined) throw new FakeEngineError('bad_argument', 'pages of a closed sequence')
    this.#checkPages(pages, filledCells)
    open.pages = [...pages]
    open.filledCells = filledCells
  }

  closeSequence(sequence: number): void {
    this.#assert(!this.#isStepping, 'a sequence was closed during a step')
    this.#assert(this.openSequences.delete(sequence), 'a closed sequence was closed')
  }

  async step(batch: StepBatch): Promise<StepResult> {
    this.#assert(!this.#isStepping, 'two steps at once')
    this.#assert(!this.isClosed, 'the engine is closed')
    this.#isStepping = true
    try {
      this.#options.onStep?.(batch)
      const rows = batch.tokens.length
      this.#assert(rows > 0 && rows <= this.limits.rowsMax, 'row count out of range')
      const engineUs = this.#options.stepUs?.(rows) ?? 100 + rows
      await (this.#options.delay ?? (() => nextTurn()))(engineUs)
      const sampled = this.#runRows(batch)
      this.steps += 1
      return { sampled, engineUs }
    } finally {
      this.#isStepping = false
    }
  }

  async close(): Promise<void> {
    this.isClosed = true
  }

  #runRows(batch: StepBatch): SampledToken[] {
    const sampled: SampledToken[] = []
    for (const [row, token] of batch.tokens.entries()) {
      const number = batch.sequences[row] ?? -1
      const slot = batch.slots[row] ?? -1
      const sequence = this.openSequences.get(number)
      if (sequence === undefined) throw new FakeEngineError('bad_row', 'row of a closed sequence')
      this.#assert(batch.positions[row] === sequence.filledCells, 'position out of order')
      this.#assert(slot === (sequence.slot ?? slot), 'a sequence changed its slot')
      sequence.slot = slot
      const identity = this.#identity(slot)
      this.#cells.set(this.#cellToWrite(sequence), { token, identity })
      sequence.filledCells += 1
      if (batch.outputs[row] !== 1) continue
      sampled.push(this.#sample(number, sequence, identity))
    }
    return sampled
  }

  /** @param index of the token in the answer. */
  #told(index: number): number | null {
    const { answer } = this.#options
    if (answer === undefined) return null
    return Buffer.from(answer)[index] ?? FAKE_EOS
  }

  #cellToWrite(sequence: FakeSequence): number {
    const { pageCells } = this.limits
    const page = sequence.pages[Math.floor(sequence.filledCells / pageCells)]
    if (page === undefined) throw new FakeEngineError('bad_row', 'row past the pages')
    for (const other of this.openSequences.values()) {
      this.#assert(other === sequence || !other.pages.includes(page), 'a shared page was written')
    }
    return page * pageCells + (sequence.filledCells % pageCells)
  }

  #tokensOf({ pages, filledCells }: FakeSequence, identity: string): number[] {
    const { pageCells } = this.limits
    return Array.from({ length: filledCells }, (_, position) => {
      const page = pages[Math.floor(position / pageCells)] ?? -1
      const cell = this.#cells.get(page * pageCells + (position % pageCells))
      if (cell === undefined) throw new FakeEngineError('bad_row', 'a cell that nobody filled')
      this.#assert(cell.identity === identity, 'cells of another adapter')
      return cell.token
    })
  }

  #checkPages(pages: Int32Array, filledCells: number): void {
    const { pageCount, pageCells, contextLength } = this.limits
    this.#assert(new Set(pages).size === pages.length, 'a page twice')
    this.#assert(
      pages.every((page) => page >= 0 && page < pageCount),
      'no such page',
    )
    this.#assert(pages.length <= Math.ceil(contextLength / pageCells), 'too many pages')
    this.#assert(filledCells <= pages.length * pageCells, 'cells without pages')
  }

  #sample(number: number, sequence: FakeSequence, identity: string): SampledToken {
    const { options } = sequence
    const tokens = this.#tokensOf(sequence, identity)
    const isNonFinite = this.#options.isNonFinite?.(tokens) ?? false
    const { temperature, seed } = options.sampling
    const drawn = temperature > 0 ? `${identity}#${seed}` : identity
    const token =
      this.#told(tokens.length - options.promptTokens.length) ??
      nextToken(drawn, tokens, this.#options.eosOneIn ?? 0)
    const withLogprobs = options.topLogprobs >= 0
    const top = Array.from({ length: Math.max(0, options.topLogprobs) }, (_, i) => ({
      token: i === 0 ? token : (token + i) % 256,
      logprob: -0.5 - i,
    }))
    const isStuck = options.sampling.grammar === 'stuck' && tokens.length % 8 === 0
    const logprob = withLogprobs ? -0.5 : null
    return { sequence: number, token, isNonFinite, isStuck, logprob, top }
  }

  #identity(slot: number): string {
    if (slot === 0) return NO_ADAPTER
    const identity = this.#slots.get(slot)
    if (identity === undefined) throw new FakeEngineError('bad_row', 'row of an empty slot')
    return identity
  }

  #assert(isTrue: boolean, message: string): void {
    if (!isTrue) throw new FakeEngineError('bad_argument', message)
  }
}

export function payloadIdentity(payload: Uint8Array): string {
  return createHash('sha256').update(payload).digest('hex')
}

/** What the fake generates for a prompt alone on an idle host: the reference for every test. */
export function expectedTokens(
  payload: Uint8Array | null,
  prompt: readonly number[],
  options: { readonly tokensMax: number; readonly eosOneIn?: number; readonly seed?: number },
): number[] {
  const adapter = payload === null ? NO_ADAPTER : payloadIdentity(payload)
  const identity = options.seed === undefined ? adapter : `${adapter}#${options.seed}`
  const tokens = [...prompt]
  const generated: number[] = []
  while (generated.length < options.tokensMax) {
    const token = nextToken(identity, tokens, options.eosOneIn ?? 0)
    generated.push(token)
    tokens.push(token)
    if (token === FAKE_EOS) break
  }
  return generated
}

function nextToken(identity: string, tokens: readonly number[], eosOneIn: number): number {
  const hash = createHash('sha256')
    .update(`${identity}:${tokens.join(',')}`)
    .digest()
  if (eosOneIn > 0 && hash.readUInt32LE(4) % eosOneIn === 0) return FAKE_EOS
  return 97 + ((hash[0] ?? 0) % 26)
}
