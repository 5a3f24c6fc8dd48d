/** Metrics that are read when they are scraped, so that they need no upkeep. */
import { Counter, Gauge, type Registry } from 'prom-client'
import type { SchedulerLoad, WaitingTenant } from '../scheduler/request-runner.ts'
import type { FairnessWindow } from './fairness-window.ts'

export interface MetricSources {
  readonly build: { readonly version: string; readonly engine: string }
  /** Monotonic. */
  readonly nowUs: () => number
  readonly load: () => Pick<
    SchedulerLoad,
    | 'sequencesRunning'
    | 'sequencesMax'
    | 'queueDepth'
    | 'queueDepthMax'
    | 'slots'
    | 'slotsInUse'
    | 'waitMs'
  >
  readonly waitingTenants: () => readonly WaitingTenant[]
  readonly isServing: () => boolean
  readonly kvPages: () => Record<'used' | 'cached' | 'free', number>
  readonly residency: () => Partial<Record<'slot' | 'ram' | 'disk', number>>
  readonly journalBytes: () => number
  /** Not acknowledged, as a share of the cap. */
  readonly journalSpoolRatio: () => number
  readonly journalDiskFreeBytes: () => number
  readonly unshippedEvents: () => number
  /** Since the end of the oldest request whose usage is not acknowledged; 0 = all is. */
  readonly usageLagMs: () => number
  /** Ever growing. */
  readonly evictions: () => number
  /** Microseconds, ever growing. */
  readonly unusedSwapUs: () => number
}

interface Described {
  readonly name: string
  readonly help: string
}

export function registerGauges(
  registers: Registry[],
  sources: MetricSources,
  fairness: FairnessWindow,
): void {
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
  const counter = (name: string, help: string, read: () => number): void => {
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset()
        this.inc(read())
      },
    })
  }
  const gaugeBy = <L extends string>(
    { name, help }: Described,
    label: string,
    values: readonly L[],
    read: () => Partial<Record<L, number>>,
  ): void => {
    new Gauge({
      name,
      help,
      labelNames: [label],
      registers,
      collect() {
        const counts = read()
        for (const value of values) this.set({ [label]: value }, counts[value] ?? 0)
      },
    })
  }
  const { load, waitingTenants, nowUs } = sources
  const build = { name: 'nozzle_build_info', help: 'Always 1; by version and kind of engine' }
  new Gauge({ ...build, labelNames: ['version', 'engine'], registers }).set(sources.build, 1)
  gauge('nozzle_serving', '1 while requests are let in', () => Number(sources.isServing()))
  gauge('nozzle_sequences_running', 'Sequences', () => load().sequencesRunning)
  gauge('nozzle_sequences_max', 'Sequences at once at most', () => load().sequencesMax)
  gauge('nozzle_queue_depth', 'Requests that wait', () => load().queueDepth)
  gauge('nozzle_queue_depth_max', 'Requests that may wait', () => load().queueDepthMax)
  gauge(
    'nozzle_queue_forecast_seconds',
    'How long a newcomer would wait for its turn, as the host reckons',
    () => load().waitMs / 1000,
  )
  gauge('nozzle_slots', 'Slots for adapters', () => load().slots)
  gauge('nozzle_slots_in_use', 'Slots pinned by requests', () => load().slotsInUse)
  gauge('nozzle_tenants_waiting', 'Tenants with requests that wait', () => waitingTenants().length)
  gauge('nozzle_longest_wait_seconds', 'Of the requests that wait now', () =>
    waitingTenants().reduce((longest, { waitUs }) => Math.max(longest, waitUs / 1e6), 0),
  )
  gauge(
    'nozzle_fairness_index',
    "Jain's index of tokens by weight, of the tenants that had to wait in the last minute",
    () => fairness.index(nowUs(), waitingTenants()),
  )
  gauge('nozzle_journal_bytes', 'Usage journal on disk', sources.journalBytes)
  gauge(
    'nozzle_journal_spool_ratio',
    'Usage not acknowledged, of its cap',
    sources.journalSpoolRatio,
  )
  gauge('nozzle_journal_disk_free_bytes', 'Free beside the journal', sources.journalDiskFreeBytes)
  gauge('nozzle_usage_unshipped_events', 'Events not acknowledged', sources.unshippedEvents)
  gauge(
    'nozzle_usage_lag_seconds',
    'Since the end of the oldest request whose usage is not acknowledged; 0 = all is',
    () => sources.usageLagMs() / 1000,
  )
  counter(
    'nozzle_adapter_evictions_total',
    'Adapters that gave up their slot for another',
    sources.evictions,
  )
  counter(
    'nozzle_unused_swap_seconds_total',
    'Loads into slots that failed, or were given up before a request used them',
    () => sources.unusedSwapUs() / 1e6,
  )
  gaugeBy(
    {
      name: 'nozzle_kv_pages',
      help: 'Pages of the KV pool: of running sequences, of cached prefixes alone, free',
    },
    'state',
    ['used', 'cached', 'free'],
    sources.kvPages,
  )
  gaugeBy(
    {
      name: 'nozzle_resident_adapters',
      help: 'Adapters held, by the fastest tier that holds them',
    },
    'tier',
    ['slot', 'ram', 'disk'],
    sources.residency,
  )
}
