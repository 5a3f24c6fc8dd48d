/** The report of `nozzle savings`: as one JSON document, and as text for people. Pure. */
import { formatUsd } from '#db/money.ts'
import {
  type Assumptions,
  type ModelCost,
  type Projection,
  savedPercent,
  sumCosts,
  type Totals,
} from '#db/savings/pool-savings.ts'
import { formatBytes, formatTable } from '../lib/output.ts'

export interface SavingsReport {
  readonly assumptions: Assumptions
  /** What the period begins with: `first_use` = the first deploy or request of the pool. */
  readonly startIs: 'given' | 'month' | 'first_use'
  /** Whether the hosts were counted in the events, rather than given. */
  readonly areHostsSeen: boolean
  /** All models of the pool. */
  readonly pool: Totals
  /** Those that are asked for. */
  readonly shown: readonly ModelCost[]
  readonly projection: (Projection & { readonly utilizationPercent: number }) | null
}

export function toJson(report: SavingsReport): unknown {
  const { assumptions, pool, shown, projection } = report
  return {
    start: new Date(assumptions.startMs).toISOString(),
    end: new Date(assumptions.endMs).toISOString(),
    start_is: report.startIs,
    warnings: warningsOf(assumptions),
    assumptions: {
      hosts: assumptions.hosts,
      gpu_pusd_per_hour: assumptions.gpuPusdPerHour,
      storage_pusd_per_gib_month: assumptions.storagePusdPerGibMonth,
      cold_start_s: assumptions.coldStartMs / 1000,
      keep_warm_s: assumptions.keepWarmMs / 1000,
      notes: describeAssumptions(report),
    },
    pool: totalsToWire(pool),
    data: shown.map(({ use, ...cost }) => ({
      tenant: use.tenant,
      model: use.model,
      base_model: use.baseModel,
      stored_bytes: use.storedBytes,
      ...totalsToWire({ ...cost, ...use }),
    })),
    totals: totalsToWire(sumCosts(shown)),
    ...(projection !== null && { at: projectionToWire(projection) }),
  }
}

function totalsToWire({ pool, dedicated, scaleToZero, ...use }: Totals) {
  return {
    requests: use.requests,
    gpu_us: use.gpuUs,
    swap_us: use.swapUs,
    pool: {
      used_pusd: pool.used,
      idle_pusd: pool.idle,
      storage_pusd: pool.storage,
      total_pusd: pool.total,
    },
    dedicated: {
      machines: dedicated.machines,
      total_pusd: dedicated.total,
      saved_percent: savedPercent(pool.total, dedicated.total),
    },
    scale_to_zero: {
      total_pusd: scaleToZero.total,
      up_s: scaleToZero.upMs / 1000,
      cold_starts: scaleToZero.coldStarts,
      delayed_requests: scaleToZero.delayedRequests,
      waited_s: scaleToZero.waitedMs / 1000,
      saved_percent: savedPercent(pool.total, scaleToZero.total),
    },
  }
}

function projectionToWire(at: NonNullable<SavingsReport['projection']>) {
  return {
    tenants: at.tenants,
    hosts: at.hosts,
    utilization_percent: at.utilizationPercent,
    pool_pusd: at.pool,
    dedicated_pusd: at.dedicated,
    scale_to_zero_pusd: at.scaleToZero,
    saved_percent_vs_dedicated: savedPercent(at.pool, at.dedicated),
    saved_percent_vs_scale_to_zero: savedPercent(at.pool, at.scaleToZero),
  }
}

/** Everything that the figures rest on and that no event says. */
export function describeAssumptions({ assumptions, areHostsSeen }: SavingsReport): string[] {
  const { hosts, gpuPusdPerHour, storagePusdPerGibMonth, coldStartMs, keepWarmMs } = assumptions
  return [
    `${hosts} host(s) were on all the time ${areHostsSeen ? '(seen in the events' : '(given'}; --hosts)`,
    `a machine costs ${formatUsd(gpuPusdPerHour)} USD an hour, in the pool and outside (--gpu-usd-per-hour)`,
    `stored adapters cost ${formatUsd(storagePusdPerGibMonth)} USD per GiB and month of 730 hours (--storage-usd-per-gib-month)`,
    'USED is the engine and load time of the model; IDLE its share, by use, of all other host time',
    'GPU s and SWAP s are of every attempt at a request, for each took a host its time; ' +
      '`nozzle usage` has the charged attempt alone',
    'DEDICATED is a machine of its own from first to last moment, more where its use asks for it',
    `SCALE TO ZERO replays the requests: ${coldStartMs / 1000} s to start (--cold-start-s), ` +
      `${keepWarmMs / 1000} s warm after the last (--keep-warm-s), both paid; a machine is always ` +
      'to be had and serves any number of requests at once',
  ]
}

export function toText(report: SavingsReport, rowsMax: number): string {
  const { assumptions, shown, pool, projection } = report
  const byCost = [...shown].sort((a, b) => Number(b.dedicated.total - a.dedicated.total))
  const listed = byCost.slice(0, rowsMax)
  const rest = byCost.slice(rowsMax)
  const rows = listed.map((cost) => toRow(nameOf(cost), { ...cost, ...cost.use }))
  if (rest.length > 0) rows.push(toRow(`${rest.length} more`, sumCosts(rest)))
  if (shown.length > 0) rows.push(toRow('total', sumCosts(shown)))
  const { startMs, endMs } = assumptions
  const stored = shown.reduce((sum, { use }) => sum + use.storedBytes, 0n)
  return [
    `${new Date(startMs).toISOString()} (${STARTS[report.startIs]}; --start) to ` +
      new Date(endMs).toISOString(),
    ...warningsOf(assumptions).map((warning) => `WARNING: ${warning}`),
    '',
    formatTable(COLUMNS, rows),
    '',
    `The pool cost ${toDollars(pool.pool.total)} USD: ${toDollars(pool.pool.used)} used, ` +
      `${toDollars(pool.pool.idle)} idle, ${toDollars(pool.pool.storage)} storage. ` +
      `Models above: ${formatBytes(Number(stored))} stored.`,
    ...(projection === null ? [] : describeProjection(projection)),
    '',
    'Assumed:',
    ...describeAssumptions(report).map((line) => `  ${line}`),
  ].join('\n')
}

const STARTS = {
  given: 'as given',
  month: 'start of the month',
  first_use: 'first deploy or request of this pool',
} as const satisfies Record<SavingsReport['startIs'], string>

const HOUR_MS = 3_600_000

function warningsOf({ startMs, endMs }: Assumptions): string[] {
  if (endMs - startMs >= HOUR_MS) return []
  const seconds = Math.round((endMs - startMs) / 1000)
  return [
    `the period is ${seconds} s long: under an hour of use says little of what a month spares`,
  ]
}

const COLUMNS = [
  ...['MODEL', 'REQUESTS', 'GPU s', 'SWAP s', 'USED USD', 'IDLE USD', 'STORE USD', 'POOL USD'],
  ...['DEDICATED USD', 'SAVED %', 'SCALE TO 0 USD', 'SAVED %', 'COLD STARTS', 'WAITED s'],
]

function toRow(name: string, totals: Totals): (string | number)[] {
  const { pool, dedicated, scaleToZero } = totals
  const money = (pusd: bigint): string => toDollars(pusd).padStart(10)
  const percent = (than: bigint): string =>
    String(savedPercent(pool.total, than)?.toFixed(2) ?? '-').padStart(7)
  const seconds = (us: bigint): string => (Number(us) / 1e6).toFixed(1).padStart(6)
  return [
    ...[name, totals.requests, seconds(totals.gpuUs), seconds(totals.swapUs)],
    ...[money(pool.used), money(pool.idle), money(pool.storage), money(pool.total)],
    ...[money(dedicated.total), percent(dedicated.total)],
    ...[money(scaleToZero.total), percent(scaleToZero.total)],
    ...[scaleToZero.coldStarts, Math.round(scaleToZero.waitedMs / 1000)],
  ]
}

function describeProjection(at: NonNullable<SavingsReport['projection']>): string[] {
  return [
    `At ${at.tenants} tenants like these: ${at.hosts} host(s) at ${at.utilizationPercent}% busy or ` +
      `less, ${toDollars(at.pool)} USD against ${toDollars(at.dedicated)} dedicated ` +
      `(${savedPercent(at.pool, at.dedicated) ?? '-'}% saved) and ${toDollars(at.scaleToZero)} ` +
      `scaled to zero (${savedPercent(at.pool, at.scaleToZero) ?? '-'}% saved).`,
  ]
}

const nameOf = ({ use }: ModelCost): string =>
  use.tenant === null ? use.model : `${use.tenant}/${use.model}`

/** To a hundredth of a cent; --json is exact. */
function toDollars(pusd: bigint): string {
  const step = 100_000_000n
  const half = pusd < 0n ? -step / 2n : step / 2n
  const [whole = '', fraction = ''] = formatUsd(((pusd + half) / step) * step).split('.')
  return `${whole}.${fraction.padEnd(4, '0')}`
}
