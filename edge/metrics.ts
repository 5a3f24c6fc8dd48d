/**
 * Everything an edge exports to Prometheus. Labels are closed sets (route, status, code, outcome,
 * kind, state): never a tenant, a key, a model or a host, whose number has no bound. What is billed
 * to whom is in the ledger.
 */
import packageJson from '../package.json' with { type: 'json' }
import {
  Counter,
  Gauge,
  Histogram,
  type MetricFamily,
  toPrometheusText,
} from './metric-families.ts'

/** Up to ten minutes: a request may wait for its turn, and generate for long. */
const REQUEST_SECONDS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 600,
]
/** Up to a day: a host that was away ships what it kept. */
const DELAY_SECONDS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 21_600, 86_400]

/** A host as this edge sees it: asked first, asked last, not asked, or taking nothing new. */
export type HostStanding = 'ready' | 'doubted' | 'ejected' | 'draining'
const HOST_STANDINGS: readonly HostStanding[] = ['ready', 'doubted', 'ejected', 'draining']

/** What is looked up when the text is made. */
export interface EdgeState {
  readonly hostsReady: number
  /** Absent = not counted. */
  readonly hosts?: readonly HostStanding[]
  /** null = none was read yet. */
  readonly snapshotAgeMs?: number | null
  readonly isDatabaseUp: boolean
  /** null = not measured. */
  readonly clockOffsetMs: number | null
  readonly voidsWaiting?: number
}

export class EdgeMetrics {
  readonly requests = new Counter(
    'nozzle_edge_requests_total',
    'Requests by route pattern and status',
    ['route', 'status'],
  )
  readonly requestSeconds = new Histogram(
    'nozzle_edge_request_seconds',
    'Until the headers of the reply',
    REQUEST_SECONDS,
  )
  readonly ttftSeconds = new Histogram(
    'nozzle_edge_ttft_seconds',
    'Request arrived to first token in hand, by where the host found the adapter',
    REQUEST_SECONDS,
    ['source'],
  )
  readonly refusals = new Counter(
    'nozzle_edge_refusals_total',
    'Requests answered with an error, by its code',
    ['code'],
  )
  readonly streamsBroken = new Counter(
    'nozzle_edge_streams_broken_total',
    'Streams that ended before their end, by code; request_aborted = the client left',
    ['code'],
  )
  readonly hostAttempts = new Counter(
    'nozzle_edge_host_attempts_total',
    'Calls to hosts: ok, or the code of the failure',
    ['outcome'],
  )
  readonly retries = new Counter(
    'nozzle_edge_host_retries_total',
    'Tries at another host: made, or no_budget',
    ['outcome'],
  )
  readonly ejections = new Counter(
    'nozzle_edge_host_ejections_total',
    'Hosts taken out, by reason; and hosts that returned',
    ['reason'],
  )
  readonly tenantHolds = new Counter(
    'nozzle_edge_tenant_holds_total',
    'Tenants held since hosts were lost under their requests',
  )
  readonly probes = new Counter(
    'nozzle_edge_host_probes_total',
    'Questions to hosts how they are: well, unwell, dead',
    ['outcome'],
  )
  readonly snapshotRefusals = new Counter(
    'nozzle_edge_snapshot_refusals_total',
    'What was not believed of heartbeats and of snapshots of the pool, by fault',
    ['reason'],
  )
  readonly keyLookups = new Counter(
    'nozzle_edge_key_lookups_total',
    'API keys: refused by form, from the cache, from the database, or stale from memory',
    ['from'],
  )
  readonly usageEvents = new Counter(
    'nozzle_edge_usage_events_total',
    'Usage events that hosts shipped: inserted, or known already',
    ['outcome'],
  )
  readonly usageDelaySeconds = new Histogram(
    'nozzle_edge_usage_delay_seconds',
    'End of a request to its usage event in the ledger',
    DELAY_SECONDS,
  )
  readonly prefetches = new Counter(
    'nozzle_edge_prefetches_total',
    'Hints to hosts to bring an adapter into memory: sent, refused, failed',
    ['outcome'],
  )
  readonly cloudEvents = new Counter(
    'nozzle_edge_cloud_events_total',
    'CloudEvents: sent, or dead (refused and given up); and each failed_batch',
    ['outcome'],
  )
  readonly cancels = new Counter(
    'nozzle_edge_cancels_total',
    'Hosts told that their client has left: ending, corrected, settled, refused, failed',
    ['outcome'],
  )
  readonly voids = new Counter(
    'nozzle_edge_voids_total',
    'Usage events that take lost attempts back: stored, lost',
    ['outcome'],
  )
  /** Not labelled `job`, which is what Prometheus calls a scrape. */
  readonly jobRuns = new Counter('nozzle_edge_job_runs_total', 'Runs of jobs: done, failed', [
    'task',
    'outcome',
  ])
  readonly databaseChanges = new Counter(
    'nozzle_edge_database_changes_total',
    'Database away, and up again, as this edge noticed',
    ['to'],
  )
  readonly spans = new Counter(
    'nozzle_edge_spans_total',
    'Spans: exported, failed (the collector did not take them), dropped (too many waited)',
    ['outcome'],
  )
  readonly limitRefusals = new Counter(
    'nozzle_edge_limit_refusals_total',
    'Requests beyond a limit, by its kind; offline = the share for an outage is used up',
    ['kind'],
  )
  readonly portionStatements = new Counter(
    'nozzle_edge_portion_statements_total',
    'Questions to the database about limits: ok, failed',
    ['outcome'],
  )
  /** Held by this edge, as it last looked. */
  spendLeasesOpen = 0
  streamsOpen = 0

  toText(state: EdgeState): string {
    return toPrometheusText(this.families(state))
  }

  families(state: EdgeState): MetricFamily[] {
    return [
      this.requests,
      this.requestSeconds,
      this.ttftSeconds,
      this.refusals,
      this.streamsBroken,
      this.hostAttempts,
      this.retries,
      this.ejections,
      this.tenantHolds,
      this.probes,
      this.snapshotRefusals,
      this.keyLookups,
      this.usageEvents,
      this.usageDelaySeconds,
      this.prefetches,
      this.cloudEvents,
      this.cancels,
      this.voids,
      this.jobRuns,
      this.databaseChanges,
      this.spans,
      this.limitRefusals,
      this.portionStatements,
      ...this.#gauges(state),
    ]
  }

  #gauges(state: EdgeState): MetricFamily[] {
    const { spendLeasesOpen, streamsOpen } = this
    const { snapshotAgeMs = null, clockOffsetMs, voidsWaiting = 0 } = state
    const seconds = (ms: number | null): number | null => (ms === null ? null : ms / 1000)
    const build = new Gauge('nozzle_edge_build_info', 'Always 1; by version', ['version'])
    build.set({ version: packageJson.version }, 1)
    return [
      build,
      gauge('nozzle_edge_spend_leases_open', 'Spend leases held', spendLeasesOpen),
      gauge('nozzle_edge_streams_open', 'Streams under way', streamsOpen),
      gauge('nozzle_edge_hosts_ready', 'Hosts that call themselves ready', state.hostsReady),
      countStandings(state.hosts ?? []),
      gauge('nozzle_edge_voids_waiting', 'Voids not in the database yet', voidsWaiting),
      gauge('nozzle_edge_database_up', '1 while the database answers', Number(state.isDatabaseUp)),
      gauge(
        'nozzle_pool_snapshot_age_seconds',
        'Since hosts were read from the database',
        seconds(snapshotAgeMs),
      ),
      gauge(
        'nozzle_edge_clock_offset_seconds',
        "The database's clock against this machine's",
        seconds(clockOffsetMs),
      ),
    ]
  }
}

/** null = not known: no value is shown. */
function gauge(name: string, help: string, value: number | null): MetricFamily {
  const made = new Gauge(name, help)
  if (value !== null) made.set({}, value)
  return made
}

function countStandings(hosts: readonly HostStanding[]): MetricFamily {
  const made = new Gauge('nozzle_edge_hosts', 'Hosts by how this edge stands to them', ['state'])
  for (const state of HOST_STANDINGS) {
    made.set({ state }, hosts.filter((standing) => standing === state).length)
  }
  return made
}
