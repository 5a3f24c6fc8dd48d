/**
 * Everything the host exports to Prometheus, in one registry that belongs to this host alone.
 * Labels are closed sets (source, tier, outcome, kind): never a tenant, an adapter or a request.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

const FAST_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5]
const SLOW_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
const ROW_COUNTS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
const SLOT_COUNTS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64]

/** Read at scrape time, so that gauges need no upkeep. */
export interface MetricSources {
  readonly load: () => {
    readonly sequencesRunning: number
    readonly queueDepth: number
    readonly slotsInUse: number
  }
  readonly kvPages: () => Record<'used' | 'cached' | 'free', number>
  readonly residency: () => Partial<Record<'slot' | 'ram' | 'disk', number>>
  readonly journalBytes: () => number
  /** Not acknowledged, as a share of the cap. */
  readonly journalSpoolRatio: () => number
  readonly journalDiskFreeBytes: () => number
  readonly unshippedEvents: () => number
  /** Microseconds, ever growing. */
  readonly unusedSwapUs: () => number
}

export interface HostMetrics {
  readonly registry: Registry
  readonly ttftSeconds: Histogram<'source'>
  readonly itlSeconds: Histogram
  readonly queueSeconds: Histogram
  readonly swapSeconds: Histogram<'source'>
  readonly stepSeconds: Histogram
  readonly stepRows: Histogram
  readonly stepDistinctSlots: Histogram
  readonly tokens: Counter<'kind'>
  readonly prefixHitTokens: Counter
  readonly prefixEvictions: Counter
  readonly kvPreemptions: Counter
  readonly requests: Counter<'outcome'>
  /** Time of engine and slots that no usage event carries. */
  readonly unattributedSeconds: Counter<'kind'>
  readonly stepFailures: Counter
  readonly usageShipFailures: Counter
  readonly heartbeatFailures: Counter
  readonly damagedSegments: Counter
  /** Called once, when the parts that the gauges read exist. */
  observe(sources: MetricSources): void
}

export function createMetrics(options: { readonly withProcess: boolean }): HostMetrics {
  const registry = new Registry()
  const registers = [registry]
  const seconds = (name: string, help: string, buckets: number[]): Histogram =>
    new Histogram({ name, help, buckets, registers })
  const bySource = (name: string, help: string): Histogram<'source'> =>
    new Histogram({ name, help, buckets: SLOW_SECONDS, labelNames: ['source'], registers })
  const count = (name: string, help: string): Counter => new Counter({ name, help, registers })
  if (options.withProcess) collectDefaultMetrics({ register: registry, prefix: 'nozzle_' })
  return {
    registry,
    ttftSeconds: bySource('nozzle_ttft_seconds', 'Request accepted to first token sent'),
    itlSeconds: seconds('nozzle_itl_seconds', 'Gap between tokens of a request', FAST_SECONDS),
    queueSeconds: seconds('nozzle_queue_seconds', 'Request accepted to first row', SLOW_SECONDS),
    swapSeconds: bySource('nozzle_swap_seconds', 'Time to bring an adapter into a slot'),
    stepSeconds: seconds('nozzle_step_seconds', 'Engine time of a step', FAST_SECONDS),
    stepRows: seconds('nozzle_step_rows', 'Rows of a step', ROW_COUNTS),
    stepDistinctSlots: seconds(
      'nozzle_step_distinct_slots',
      'Different adapter slots in one step, slot 0 (no adapter) not counted',
      [0, ...SLOT_COUNTS],
    ),
    tokens: new Counter({
      name: 'nozzle_tokens_total',
      help: 'Prompt rows run, completion tokens generated, rows run again after a preemption',
      labelNames: ['kind'],
      registers,
    }),
    prefixHitTokens: count('nozzle_prefix_hit_tokens_total', 'Tokens found in cached pages'),
    prefixEvictions: count('nozzle_prefix_evictions_total', 'Cached pages given up for others'),
    kvPreemptions: count(
      'nozzle_kv_preemptions_total',
      'Sequences that lost their pages for a while',
    ),
    requests: new Counter({
      name: 'nozzle_requests_total',
      help: 'Requests by outcome: a finish reason, or the code of the error that ended them',
      labelNames: ['outcome'],
      registers,
    }),
    unattributedSeconds: countUnattributed(registers),
    stepFailures: count('nozzle_step_failures_total', 'Steps that the engine rejected'),
    usageShipFailures: count('nozzle_usage_ship_failures_total', 'Usage batches not acknowledged'),
    heartbeatFailures: count('nozzle_heartbeat_failures_total', 'Heartbeats not acknowledged'),
    damagedSegments: count(
      'nozzle_journal_damaged_segments_total',
      'Segments set aside, there at start',
    ),
    observe: (sources) => registerGauges(registers, sources),
  }
}

function countUnattributed(registers: Registry[]): Counter<'kind'> {
  return new Counter({
    name: 'nozzle_unattributed_seconds_total',
    help:
      'Time that no usage event carries. step, swap: of requests that owe nothing; failed_step: ' +
      'of steps that the engine rejected',
    labelNames: ['kind'],
    registers,
  })
}

function registerGauges(registers: Registry[], sources: MetricSources): void {
  const gauge = (name: string, help: string, read: () => number): void => {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read())
      },
    })
  }
  gauge('nozzle_sequences_running', 'Sequences', () => sources.load().sequencesRunning)
  gauge('nozzle_queue_depth', 'Requests that wait', () => sources.load().queueDepth)
  gauge('nozzle_slots_in_use', 'Slots pinned by requests', () => sources.load().slotsInUse)
  gauge('nozzle_journal_bytes', 'Usage journal on disk', sources.journalBytes)
  gauge(
    'nozzle_journal_spool_ratio',
    'Usage not acknowledged, of its cap',
    sources.journalSpoolRatio,
  )
  gauge('nozzle_journal_disk_free_bytes', 'Free beside the journal', sources.journalDiskFreeBytes)
  gauge('nozzle_usage_unshipped_events', 'Events not acknowledged', sources.unshippedEvents)
  new Counter({
    name: 'nozzle_unused_swap_seconds_total',
    help: 'Loads into slots that failed, or were given up before a request used them',
    registers,
    collect() {
      this.reset()
      this.inc(sources.unusedSwapUs() / 1e6)
    },
  })
  new Gauge({
    name: 'nozzle_kv_pages',
    help: 'Pages of the KV pool: of running sequences, of cached prefixes alone, free',
    labelNames: ['state'],
    registers,
    collect() {
      const counts = sources.kvPages()
      for (const state of ['used', 'cached', 'free'] as const) this.set({ state }, counts[state])
    },
  })
  new Gauge({
    name: 'nozzle_resident_adapters',
    help: 'Adapters held, by the fastest tier that holds them',
    labelNames: ['tier'],
    registers,
    collect() {
      const counts = sources.residency()
      for (const tier of ['slot', 'ram', 'disk'] as const) this.set({ tier }, counts[tier] ?? 0)
    },
  })
}
