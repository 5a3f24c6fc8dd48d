/**
 * A deterministic Engine without weights. The next token is a hash of the adapter payload that the
 * row's slot holds, of every token of the sequence so far and, above temperature 0, of the seed: a
 * wrong slot, a mixed-up sequence, a skipped or doubled row each change the output. It also refuses
 * what a real engine may crash on: rows out of order, closed sequences, slots that are empty or
 * being loaded, two steps at once.
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
  readonly tokens: number[]
  slot: number | null
}

export class FakeEngine implements Engine {
  readonly info: EngineInfo
  readonly limits: EngineLimits
  readonly openSequences = new Map<number, FakeSequence>()
  readonly #options: FakeEngineOptions
  /** Payload hash by slot; absent = empty or being loaded. */
  readonly #slots = new Map<number, string>()
  #isStepping = false
  isClosed = false
  steps = 0

  constructor(options: FakeEngineOptions = {}) {
    this.#options = options
    this.limits = {
      slotCount: 4,
      slotBytes: 1024 * 1024,
      rankMax: 64,
      sequenceCount: 8,
      contextLength: 512,
      rowsMax: 64,
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
    return token < 256 ? Uint8Array.of(token) : new Uint8Array()
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
    this.openSequences.set(sequence, { options, tokens: [], slot: null })
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
      this.#assert(batch.positions[row] === sequence.tokens.length, 'position out of order')
      this.#assert(slot === (sequence.slot ?? slot), 'a sequence changed its slot')
      sequence.slot = slot
      sequence.tokens.push(token)
      if (batch.outputs[row] !== 1) continue
      sampled.push(this.#sample(number, sequence, this.#identity(slot)))
    }
    return sampled
  }

  #sample(number: number, { tokens, options }: FakeSequence, identity: string): SampledToken {
    const isNonFinite = this.#options.isNonFinite?.(tokens) ?? false
    const { temperature, seed } = options.sampling
    const drawn = temperature > 0 ? `${identity}#${seed}` : identity
    const token = nextToken(drawn, tokens, this.#options.eosOneIn ?? 0)
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
