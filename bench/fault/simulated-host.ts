/**
 * What a host does to its journal, without the host: opens requests, writes progress before it
 * gives a chunk away, settles, ships. Keeps book of what clients were given, and when, apart from
 * the journal.
 */
import type { Clock } from '../../gpu-host/clock.ts'
import { Journal } from '../../gpu-host/journal/journal.ts'
import type { JournalRecord } from '../../gpu-host/journal/record.ts'
import { placeCursor, readShippedCursor } from '../../gpu-host/journal/shipped-cursor.ts'
import type { RequestFacts } from '../../gpu-host/protocol.ts'
import type { EdgeClient } from '../../gpu-host/telemetry/edge-client.ts'
import type { HostMetrics } from '../../gpu-host/telemetry/metrics.ts'
import { createUsageEvent } from '../../gpu-host/telemetry/usage-event.ts'
import { UsageOutbox } from '../../gpu-host/telemetry/usage-outbox.ts'
import type { Random } from '../../native/test/support/random.ts'
import type { DyingDisk } from './dying-disk.ts'

export const JOURNAL = '/journal'
export const FSYNC_INTERVAL_MS = 100
/** How long a simulated fsync is under way. */
export const FSYNC_MS_MAX = 20
const HOST = 'hst_simulated'
const LIVE_MAX = 4
const CHUNK_TOKENS_MAX = 3

export interface GivenChunk {
  readonly tokens: number
  readonly atMs: number
}

/** One request, as its client and the bench know it. */
export interface SimulatedRequest {
  readonly facts: RequestFacts
  readonly promptRows: number
  readonly given: GivenChunk[]
  /** Tokens of the chunk that was being written down when the host died; 0 = none was. */
  underWay: number
  /** Of the life it ran in: when that ended. */
  endedMs: number
}

export interface HostParts {
  readonly disk: DyingDisk
  readonly clock: Clock
  readonly edge: EdgeClient
  readonly random: Random
  readonly metrics: HostMetrics
  /** Makes a request's facts; each has its own id. */
  readonly createFacts: () => RequestFacts
}

interface LiveRequest extends SimulatedRequest {
  readonly handle: number
  readonly startedAt: string
  gpuUs: number
}

/** One life, from its start to its death. Throws from the constructor when it dies in recovery. */
export class SimulatedHost {
  readonly requests: SimulatedRequest[] = []
  readonly outbox: UsageOutbox
  readonly #parts: HostParts
  readonly #journal: Journal
  /** What the journal last threw. Nothing that it refuses is given away. */
  refusal: unknown = null
  #live: LiveRequest[] = []
  #handles = 0
  #failedMs: number | null = null

  constructor(parts: HostParts) {
    const { disk, clock, edge } = parts
    this.#parts = parts
    disk.makeDirectory(JOURNAL)
    const log = (): void => {}
    const shipped = readShippedCursor(disk, JOURNAL, log)
    this.#journal = new Journal({
      directory: JOURNAL,
      hostId: HOST,
      clock,
      log,
      // Small, so that rotations fall between crashes too.
      segmentBytesMax: 6000,
      totalBytesMax: 1e9,
      retentionMs: 1e12,
      fsyncIntervalMs: FSYNC_INTERVAL_MS,
      reserveBytes: 8192,
      shippedSegment: shipped.segment,
      disk,
      onFailed: () => {
        this.#failedMs ??= clock.nowMs()
      },
    })
    this.outbox = new UsageOutbox(
      {
        directory: JOURNAL,
        disk,
        hostId: HOST,
        edge,
        metrics: parts.metrics,
        clock,
        log,
        durable: () => this.#journal.durable,
        onShipped: (segment) => this.#journal.setShippedSegment(segment),
      },
      placeCursor(shipped, { disk, directory: JOURNAL, recovery: this.#journal.recovery, log }),
    )
  }

  /** Its process is gone, or ends because its journal has failed. */
  get isOver(): boolean {
    return this.overMs !== null
  }

  /** Since when that is so; null = it lives. */
  get overMs(): number | null {
    return this.#parts.disk.diedMs ?? this.#failedMs
  }

  open(): void {
    const { clock, random, createFacts } = this.#parts
    if (this.#live.length >= LIVE_MAX) return
    const request: LiveRequest = {
      facts: createFacts(),
      promptRows: 1 + random.integer(50),
      given: [],
      underWay: 0,
      endedMs: Infinity,
      handle: this.#handles++,
      startedAt: new Date(clock.nowMs()).toISOString(),
      gpuUs: 0,
    }
    const { handle: n, startedAt: at, facts } = request
    if (this.#append([{ t: 'opened', n, at, request: facts }])) this.#live.push(request)
    this.requests.push(request)
  }

  /** Some requests get a chunk, some of these their last: one write, and only then the chunks. */
  step(): void {
    const { random, clock } = this.#parts
    const records: JournalRecord[] = []
    const running = this.#live.filter(() => random.fraction() < 0.8)
    const ended: LiveRequest[] = []
    for (const request of running) {
      if (request.given.length === 0) records.push(startedRecord(request))
      request.underWay = 1 + random.integer(CHUNK_TOKENS_MAX)
      request.gpuUs += 1000
      if (random.fraction() < 0.15) ended.push(request)
    }
    if (running.length === 0) return
    records.push({ t: 'progress', rows: running.map(progressRow) })
    for (const request of ended) records.push(this.#settled(request, 'stop'))
    if (!this.#append(records)) return
    for (const request of running) {
      request.given.push({ tokens: request.underWay, atMs: clock.nowMs() })
      request.underWay = 0
    }
    this.#live = this.#live.filter((request) => !ended.includes(request))
  }

  /** The client of one request leaves. */
  abort(): void {
    const [request] = this.#live
    if (request === undefined) return
    if (this.#append([this.#settled(request, 'abort')])) this.#live.shift()
  }

  #append(records: readonly JournalRecord[]): boolean {
    try {
      this.#journal.append(records)
      return true
    } catch (error) {
      this.refusal = error
      return false
    }
  }

  #settled(request: LiveRequest, finish: 'stop' | 'abort'): JournalRecord {
    const event = createUsageEvent({
      request: request.facts,
      hostId: HOST,
      epoch: this.#journal.epoch,
      finish,
      totals: {
        promptRows: request.given.length + request.underWay === 0 ? 0 : request.promptRows,
        cachedPromptTokens: 0,
        completionTokens: tokensOf(request) + request.underWay,
        gpuUs: request.gpuUs,
      },
      queueUs: 0,
      ttftUs: 0,
      swapUs: 0,
      adapterBytes: 0,
      source: 'none',
      startedAt: request.startedAt,
      endedAt: new Date(this.#parts.clock.nowMs()).toISOString(),
      origin: 'engine',
    })
    return { t: 'settled', n: request.handle, code: null, event }
  }
}

export function tokensOf({ given }: SimulatedRequest): number {
  return given.reduce((sum, { tokens }) => sum + tokens, 0)
}

function startedRecord({ handle }: LiveRequest): JournalRecord {
  const times = { queue_us: 0, ttft_us: 0, swap_us: 0 }
  return {
    ...{ t: 'started', n: handle, ...times, adapter_bytes: 0 },
    ...{ source: 'none', cached_prompt_tokens: 0 },
  }
}

function progressRow(request: LiveRequest): [number, number, number, number] {
  const { handle, promptRows, underWay, gpuUs } = request
  return [handle, promptRows, tokensOf(request) + underWay, gpuUs]
}
