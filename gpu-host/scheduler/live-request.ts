/**
 * A request between its acceptance and its settlement: what its choices share. Each of its
 * sequences generates one choice; the journal, the bill and the stream know the request alone. The
 * prompt is billed once, the tokens of all choices are, as they are handed over. An order to end
 * ends them all. When all choices have ended, the request lives on until its last chunk is taken.
 */
import type { AdapterSource, FinishReason, GenerateRequest } from '../protocol.ts'
import type { RequestTotals } from '../telemetry/usage-event.ts'
import type { Prompt } from '../text/prompt.ts'
import type { Choice } from './choice.ts'
import type { EndOrder } from './end-order.ts'
import type { EventBuffer } from './event-buffer.ts'

export interface LiveRequestInput<C extends Choice> {
  /** Names the request in the journal. */
  readonly handle: number
  readonly request: GenerateRequest
  readonly prompt: Prompt
  /** Made for this request alone. */
  readonly createBuffer: (owner: LiveRequest<C>) => EventBuffer
  readonly startedAt: string
  /** Where the adapter was when the request arrived. */
  readonly source: AdapterSource
  /** The request's own, or drawn by the host. */
  readonly seed: number
  /** Called once per choice, which then waits for its adapter. */
  readonly createChoice: (owner: LiveRequest<C>, choice: number) => C
}

export class LiveRequest<C extends Choice = Choice> {
  readonly handle: number
  readonly request: GenerateRequest
  readonly prompt: Prompt
  readonly buffer: EventBuffer
  readonly startedAt: string
  readonly source: AdapterSource
  readonly seed: number
  /** By choice. */
  readonly sequences: readonly C[]
  order: EndOrder | null = null
  isSettled = false
  /** Tokens of the chunks that its consumer was given, and the journal holds. */
  handedOverTokens = 0
  /** What the edge passed on to a client that left; unbounded unless it said so. */
  deliveredTokensMax = Number.POSITIVE_INFINITY
  /** Since when its consumer has not taken what it could; null = it does. */
  stalledSinceUs: number | null = null

  constructor(input: LiveRequestInput<C>) {
    this.handle = input.handle
    this.request = input.request
    this.prompt = input.prompt
    this.startedAt = input.startedAt
    this.source = input.source
    this.seed = input.seed
    this.buffer = input.createBuffer(this)
    this.sequences = Array.from({ length: input.request.n }, (_, choice) =>
      input.createChoice(this, choice),
    )
  }

  /**
   * What is owed so far: of the prompt what the furthest of the choices has read, of the answer
   * what was handed over, and not more than the client is known to have got: of a reply in one
   * piece nothing, where it broke off.
   */
  get totals(): RequestTotals {
    const read = this.sequences.map(({ promptRead }) => promptRead).filter(({ rows }) => rows > 0)
    const cached = read.map(({ cachedTokens }) => cachedTokens)
    return {
      promptRows: Math.max(0, ...read.map(({ rows }) => rows)),
      // Choices find what another one read: spared is what not one of them had to compute.
      cachedPromptTokens: cached.length === 0 ? 0 : Math.min(...cached),
      completionTokens: this.#isBrokenPiece
        ? 0
        : Math.min(this.handedOverTokens, this.deliveredTokensMax),
      gpuUs: sum(this.sequences.map(({ gpuUs }) => gpuUs)),
    }
  }

  get #isBrokenPiece(): boolean {
    return this.request.is_whole && this.order?.finish === 'abort'
  }

  /** Microseconds. */
  get acceptedUs(): number {
    return Math.min(...this.sequences.map(({ timing }) => timing.acceptedUs))
  }

  get hasDrawn(): boolean {
    return this.sequences.some(({ drawnTokens }) => drawnTokens > 0)
  }

  /** Its consumer keeps the request from going on, or from being settled. */
  get isHeldUp(): boolean {
    return this.buffer.isFull || (this.finish !== null && this.buffer.hasChunks)
  }

  /** Accepted → first row of any choice; counts until `nowUs` while the request still waits. */
  queueUs(nowUs: number): number {
    return Math.min(...this.sequences.map(({ timing }) => timing.queueUs(nowUs)))
  }

  /** null = no token was made. */
  get ttftUs(): number | null {
    const all = this.sequences.flatMap(({ timing }) => timing.ttftUs ?? [])
    return all.length === 0 ? null : Math.min(...all)
  }

  /** Of all loads whose time the request carries: of a load, one lease alone says it. */
  get swapUs(): number {
    return sum(this.sequences.map(({ lease }) => lease?.swapUs ?? 0))
  }

  /** Size of the adapter's pack; 0 = the base model alone, or no slot yet. */
  get adapterBytes(): number {
    return Math.max(...this.sequences.map(({ lease }) => lease?.packBytes ?? 0))
  }

  get hasStarted(): boolean {
    return this.sequences.some(({ state }) => state !== 'queued')
  }

  /** How the request ended by itself: when its last choice has, `length` where any was cut. */
  get finish(): FinishReason | null {
    const all = this.sequences.map(({ finish }) => finish)
    if (all.includes(null)) return null
    return all.includes('length') ? 'length' : 'stop'
  }

  /** Asks for an early end; the first order counts. */
  orderEnd(order: EndOrder): void {
    if (this.order !== null || this.isSettled) return
    this.order = order
    for (const sequence of this.sequences) sequence.abortStart.abort('ended')
  }
}

/** Sequences of the requests, by the digest of their adapter. */
export function countByAdapter(requests: Iterable<LiveRequest>): Map<string, number> {
  const counts = new Map<string, number>()
  for (const { request, sequences } of requests) {
    const { adapter_digest: digest } = request
    if (digest === null) continue
    counts.set(digest, (counts.get(digest) ?? 0) + sequences.length)
  }
  return counts
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
