/**
 * Everything the host exports to Prometheus, in one registry that belongs to this host alone.
 * Labels are closed sets (source, tier, outcome, kind): never a tenant, an adapter or a request.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import { FairnessWindow } from './fairness-window.ts'
import { type MetricSources, registerGauges } from './metric-gauges.ts'

const FAST_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5]
const SLOW_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
const ROW_COUNTS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
const SLOT_COUNTS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64]

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
  readonly isolationBreaches: Counter
  readonly requests: Counter<'outcome'>
  readonly refusals: Counter<'code'>
  readonly spans: Counter<'outcome'>
  readonly storeFetches: Counter<'outcome'>
  readonly storeFetchSeconds: Histogram
  readonly storeFetchedBytes: Counter
  readonly storeBreakerOpen: Gauge
  readonly fairness: FairnessWindow
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
  const countBy = <L extends string>(label: L, name: string, help: string): Counter<L> =>
    new Counter({ name, help, labelNames: [label], registers })
  const fairness = new FairnessWindow()
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
    tokens: countBy(
      'kind',
      'nozzle_tokens_total',
      'Prompt rows run, completion tokens generated, rows run again after a preemption',
    ),
    prefixHitTokens: count('nozzle_prefix_hit_tokens_total', 'Tokens found in cached pages'),
    prefixEvictions: count('nozzle_prefix_evictions_total', 'Cached pages given up for others'),
    kvPreemptions: count(
      'nozzle_kv_preemptions_total',
      'Sequences that lost their pages for a while',
    ),
    isolationBreaches: count(
      'nozzle_isolation_breaches_total',
      'Sequences kept out of a step: slot or cells were not theirs; above 0 is a bug of the host',
    ),
    requests: countBy(
      'outcome',
      'nozzle_requests_total',
      'Requests by outcome: a finish reason, or the code of the error that ended them',
    ),
    refusals: countBy('code', 'nozzle_refusals_total', 'Calls answered with an error, by its code'),
    spans: countBy(
      'outcome',
      'nozzle_spans_total',
      'Spans: exported, failed (the collector did not take them), dropped (too many waited)',
    ),
    storeFetches: countBy(
      'outcome',
      'nozzle_store_fetches_total',
      'Adapters asked of the store: found, missing, failed, abandoned',
    ),
    storeFetchSeconds: seconds(
      'nozzle_store_fetch_seconds',
      'Adapter asked of the store to its last byte, where it was found',
      SLOW_SECONDS,
    ),
    storeFetchedBytes: count('nozzle_store_fetched_bytes_total', 'Bytes read of the store'),
    storeBreakerOpen: new Gauge({
      name: 'nozzle_store_breaker_open',
      help: '1 while the store is known to be away, and reads are refused at once',
      registers,
    }),
    fairness,
    unattributedSeconds: countBy(
      'kind',
      'nozzle_unattributed_seconds_total',
      'Time that no usage event carries. step, swap: of requests that owe nothing; failed_step: ' +
        'of steps that the engine rejected',
    ),
    stepFailures: count('nozzle_step_failures_total', 'Steps that the engine rejected'),
    usageShipFailures: count('nozzle_usage_ship_failures_total', 'Usage batches not acknowledged'),
    heartbeatFailures: count('nozzle_heartbeat_failures_total', 'Heartbeats not acknowledged'),
    damagedSegments: count(
      'nozzle_journal_damaged_segments_total',
      'Segments set aside, there at start',
    ),
    observe: (sources) => registerGauges(registers, sources, fairness),
  }
}
