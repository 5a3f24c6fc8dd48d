/** Records of made-up requests, and a journal of them on a simulated disk. */
import { systemClock } from '../../clock.ts'
import { Journal, type JournalOptions } from '../../journal/journal.ts'
import type { JournalRecord, OpenedRecord, SettledRecord } from '../../journal/record.ts'
import { CURSOR_START, readSettled } from '../../journal/settled-reader.ts'
import type { RequestFacts, UsageEvent } from '../../protocol.ts'
import { SimulatedDisk } from './simulated-disk.ts'
import { VirtualClock } from './virtual-clock.ts'

export const JOURNAL_DIRECTORY = '/journal'
export const RECORDED_AT = '2026-01-01T00:00:00.000Z'

export function facts(n: number, attempt = 1): RequestFacts {
  return {
    request_id: `req_${n}`,
    attempt,
    tenant_id: 'ten_a',
    key_id: null,
    model: 'm',
    model_id: null,
    adapter_version_id: null,
    adapter_digest: null,
    base_model: 'base',
    price_version_id: null,
    lease_ids: [],
  }
}

export function opened(n: number): OpenedRecord {
  return { t: 'opened', n, at: RECORDED_AT, request: facts(n) }
}

export function started(n: number): JournalRecord {
  return {
    t: 'started',
    n,
    queue_us: 5,
    ttft_us: 9,
    swap_us: 2,
    adapter_bytes: 0,
    source: 'ram',
    cached_prompt_tokens: 2,
  }
}

export function progress(n: number, prompt: number, completion: number): JournalRecord {
  return { t: 'progress', rows: [[n, prompt, completion, completion * 10]] }
}

export function settled(n: number, completion: number): SettledRecord {
  const event: UsageEvent = {
    ...facts(n),
    host_id: 'hst_test',
    epoch: 1,
    prompt_tokens: 3,
    cached_prompt_tokens: 0,
    completion_tokens: completion,
    finish_reason: 'stop',
    gpu_us: 1,
    queue_us: 1,
    ttft_us: 1,
    swap_us: 0,
    adapter_bytes: 0,
    adapter_source: 'none',
    started_at: RECORDED_AT,
    ended_at: RECORDED_AT,
    source: 'engine',
  }
  return { t: 'settled', n, code: null, event }
}

/** What a journal needs at least; nothing is removed, and rotation is far off. */
export function journalOptions(directory: string): JournalOptions {
  return {
    directory,
    hostId: 'hst_test',
    clock: systemClock,
    log: () => {},
    segmentBytesMax: 1e6,
    totalBytesMax: 1e9,
    retentionMs: Number.POSITIVE_INFINITY,
    fsyncIntervalMs: 100,
    shippedSegment: 0,
    reserveBytes: 100_000,
  }
}

/** A journal's disk over several lives of its host, and what was logged in them. */
export class JournalRig {
  readonly disk: SimulatedDisk
  clock = new VirtualClock()
  readonly logged: string[] = []
  readonly directory = JOURNAL_DIRECTORY

  constructor(disk = new SimulatedDisk({ random: () => 0 })) {
    this.disk = disk
    disk.makeDirectory(this.directory)
  }

  /** Starts the host anew: whoever had the journal is gone. */
  open(overrides: Partial<JournalOptions> = {}): Journal {
    this.disk.kill()
    // Its timers are gone with it.
    this.clock = new VirtualClock(this.clock.nowMs())
    return new Journal({
      ...journalOptions(this.directory),
      clock: this.clock,
      log: (level, message, fields = {}) =>
        this.logged.push(`${level}: ${message} ${JSON.stringify(fields)}`),
      disk: this.disk,
      ...overrides,
    })
  }

  settledEvents(): readonly UsageEvent[] {
    return readSettled(this.directory, CURSOR_START, 1e6, { disk: this.disk }).events
  }

  /** Errors and warnings, as one text. */
  alarms(): string {
    return this.logged.filter((line) => !line.startsWith('info')).join('\n')
  }
}
