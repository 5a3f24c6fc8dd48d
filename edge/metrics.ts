/**
 * Counters of this edge as Prometheus text. Without a library, so that it runs in workerd; there
 * each isolate counts for itself. No tenant or model is a label: what is billed is in the ledger.
 */

type Labels = Readonly<Record<string, string>>

const SECONDS_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60]

class Counter {
  readonly #values = new Map<string, number>()

  add(labels: Labels, amount = 1): void {
    const key = toLabelText(labels)
    this.#values.set(key, (this.#values.get(key) ?? 0) + amount)
  }

  lines(name: string): string[] {
    return [...this.#values].map(([labels, value]) => `${name}${labels} ${value}`)
  }
}

class Histogram {
  readonly #counts = SECONDS_BUCKETS.map(() => 0)
  #count = 0
  #sum = 0

  observe(seconds: number): void {
    this.#count += 1
    this.#sum += seconds
    for (const [i, bound] of SECONDS_BUCKETS.entries()) {
      if (seconds <= bound) this.#counts[i] = (this.#counts[i] ?? 0) + 1
    }
  }

  lines(name: string): string[] {
    const buckets = SECONDS_BUCKETS.map(
      (bound, i) => `${name}_bucket{le="${bound}"} ${this.#counts[i] ?? 0}`,
    )
    return [
      ...buckets,
      `${name}_bucket{le="+Inf"} ${this.#count}`,
      `${name}_sum ${this.#sum}`,
      `${name}_count ${this.#count}`,
    ]
  }
}

export class EdgeMetrics {
  /** By route pattern and status. */
  readonly requests = new Counter()
  /** Until the reply's headers. */
  readonly requestSeconds = new Histogram()
  /** Calls to hosts: `ok`, or the code of the failure. */
  readonly hostAttempts = new Counter()
  /** `refused` by form, `cache`, `database`, `stale` = from memory during an outage. */
  readonly keyLookups = new Counter()
  /** `inserted`, `known`. */
  readonly usageEvents = new Counter()
  /** `away` and `up` again, as this edge noticed. */
  readonly databaseChanges = new Counter()
  /** By job: `done`, `failed`. */
  readonly jobRuns = new Counter()
  /** Tries at another host: `made`, `no_budget`. */
  readonly retries = new Counter()
  /** Hosts taken out: why; and hosts `returned`. */
  readonly ejections = new Counter()
  /** Tenants held since hosts were lost under their requests. */
  readonly tenantHolds = new Counter()
  /** Questions to hosts how they are: `well`, `unwell`, `dead`. */
  readonly probes = new Counter()
  /** What was not believed of heartbeats and of snapshots of the pool, by fault. */
  readonly snapshotRefusals = new Counter()
  /** `sent`, `failed`. */
  readonly prefetches = new Counter()
  /** Hosts told that their client has left: `ending`, `corrected`, `settled`, or `failed`. */
  readonly cancels = new Counter()
  /** Usage events that take lost attempts back: `stored`, `lost`. */
  readonly voids = new Counter()
  /** CloudEvents: `sent`, `dead` = refused and given up; and each `failed_batch`. */
  readonly cloudEvents = new Counter()
  /** By the kind of limit; `offline` = the share for an outage of the database is used up. */
  readonly limitRefusals = new Counter()
  /** Questions to the database about limits: `ok`, `failed`. */
  readonly portionStatements = new Counter()
  /** Held by this edge, as it last looked. */
  spendLeasesOpen = 0
  streamsOpen = 0

  toText(state: {
    readonly hostsReady: number
    /** null = none was read yet. */
    readonly snapshotAgeMs?: number | null
    readonly isDatabaseUp: boolean
    /** null = not measured. */
    readonly clockOffsetMs: number | null
  }): string {
    const lines = [
      ...block('nozzle_edge_requests_total', 'counter', this.requests),
      ...block('nozzle_edge_request_seconds', 'histogram', this.requestSeconds),
      ...block('nozzle_edge_host_attempts_total', 'counter', this.hostAttempts),
      ...block('nozzle_edge_host_retries_total', 'counter', this.retries),
      ...block('nozzle_edge_host_ejections_total', 'counter', this.ejections),
      ...block('nozzle_edge_tenant_holds_total', 'counter', this.tenantHolds),
      ...block('nozzle_edge_host_probes_total', 'counter', this.probes),
      ...block('nozzle_edge_snapshot_refusals_total', 'counter', this.snapshotRefusals),
      ...block('nozzle_edge_key_lookups_total', 'counter', this.keyLookups),
      ...block('nozzle_edge_usage_events_total', 'counter', this.usageEvents),
      ...block('nozzle_edge_prefetches_total', 'counter', this.prefetches),
      ...block('nozzle_edge_cloud_events_total', 'counter', this.cloudEvents),
      ...block('nozzle_edge_cancels_total', 'counter', this.cancels),
      ...block('nozzle_edge_voids_total', 'counter', this.voids),
      ...block('nozzle_edge_job_runs_total', 'counter', this.jobRuns),
      ...block('nozzle_edge_database_changes_total', 'counter', this.databaseChanges),
      ...block('nozzle_edge_limit_refusals_total', 'counter', this.limitRefusals),
      ...block('nozzle_edge_portion_statements_total', 'counter', this.portionStatements),
      ...gauge('nozzle_edge_spend_leases_open', this.spendLeasesOpen),
      ...gauge('nozzle_edge_streams_open', this.streamsOpen),
      ...gauge('nozzle_edge_hosts_ready', state.hostsReady),
      ...gauge('nozzle_edge_database_up', state.isDatabaseUp ? 1 : 0),
    ]
    if (state.snapshotAgeMs != null) {
      lines.push(...gauge('nozzle_pool_snapshot_age_seconds', state.snapshotAgeMs / 1000))
    }
    if (state.clockOffsetMs !== null) {
      lines.push(...gauge('nozzle_edge_clock_offset_seconds', state.clockOffsetMs / 1000))
    }
    return `${lines.join('\n')}\n`
  }
}

function block(name: string, type: string, metric: Counter | Histogram): string[] {
  return [`# TYPE ${name} ${type}`, ...metric.lines(name)]
}

function gauge(name: string, value: number): string[] {
  return [`# TYPE ${name} gauge`, `${name} ${value}`]
}

function toLabelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(
    ([name, value]) => `${name}="${value.replace(/[\\"]/g, '\\$&').replaceAll('\n', '\\n')}"`,
  )
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}
