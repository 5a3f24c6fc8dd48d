/**
 * The report of `nozzle savings threshold`: the goals for tenants that sleep, that are used as
 * stated and that are used ten times as much.
 */
import { formatUsd } from '#db/money.ts'
import { savedPercent } from '#db/savings/pool-savings.ts'
import { formatTable } from '../lib/output.ts'
import type { MeasuredHost } from './measured-host.ts'
import {
  busyUsPerDay,
  costOfDay,
  findThreshold,
  hostsFor,
  type PoolPlan,
  TENANTS_MAX,
  type TenantUse,
} from './tenant-threshold.ts'

const GOALS_PERCENT = [90, 99] as const

export type ThresholdReport = ReturnType<typeof createThresholdReport>

export function createThresholdReport(host: MeasuredHost, plan: PoolPlan, use: TenantUse) {
  const { gpuPusdPerHour, storagePusdPerGibMonth, utilizationPercent } = plan
  return {
    assumptions: {
      gpu_pusd_per_hour: gpuPusdPerHour,
      storage_pusd_per_gib_month: storagePusdPerGibMonth,
      utilization_percent: utilizationPercent,
      adapter_bytes: host.adapterBytes,
      measured: host.sources,
      notes: [
        'one host of the pool and one dedicated machine are the measured machine, at one price',
        'a tenant has one model; a dedicated machine is on all day',
        'use is even over the day: plan a lower --utilization for peaks that come together',
      ],
    },
    data: [0, 1, 10].map((times) => {
      const each = { ...use, requestsPerDay: use.requestsPerDay * times }
      return describeUse(host, plan, each)
    }),
  }
}

function describeUse(host: MeasuredHost, plan: PoolPlan, use: TenantUse) {
  const busyUs = busyUsPerDay(use, host)
  const goals = GOALS_PERCENT.map((goal) => {
    const { reachedAt, holdsFrom } = findThreshold(goal, busyUs, host.adapterBytes, plan)
    return { saved_percent: goal, reached_at_tenants: reachedAt, holds_from_tenants: holdsFrom }
  })
  const most = costOfDay(TENANTS_MAX, busyUs, host.adapterBytes, plan)
  return {
    requests_per_day: use.requestsPerDay,
    prompt_tokens: use.promptTokens,
    completion_tokens: use.completionTokens,
    busy_s_per_day: Number(busyUs) / 1e6,
    tenants_per_host: tenantsPerHost(busyUs, plan),
    goals,
    saved_percent_at_most_tenants: savedPercent(most.pool, most.dedicated),
    most_tenants: TENANTS_MAX,
  }
}

/** The most that one host carries as planned; null = more than are looked at. */
function tenantsPerHost(busyUs: bigint, plan: PoolPlan): number | null {
  if (hostsFor(TENANTS_MAX, busyUs, plan) === 1n) return null
  let [low, high] = [1, TENANTS_MAX]
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (hostsFor(middle, busyUs, plan) === 1n) low = middle
    else high = middle
  }
  return low
}

export function thresholdToText({ assumptions, data }: ThresholdReport): string {
  const number = (value: number | null): string => (value === null ? 'never' : String(value))
  const rows = data.map((use) => [
    use.requests_per_day === 0
      ? 'asleep'
      : `${use.requests_per_day} × ${use.prompt_tokens} + ${use.completion_tokens} tokens`,
    use.busy_s_per_day.toFixed(1),
    use.tenants_per_host ?? `> ${TENANTS_MAX}`,
    ...use.goals.flatMap((goal) => [
      number(goal.reached_at_tenants),
      number(goal.holds_from_tenants),
    ]),
    use.saved_percent_at_most_tenants ?? '-',
  ])
  const columns = [
    ...['USE A DAY', 'BUSY s', 'TENANTS A HOST'],
    ...GOALS_PERCENT.flatMap((goal) => [`${goal}% AT TENANTS`, 'FOR GOOD FROM']),
    `% AT ${TENANTS_MAX}`,
  ]
  return [
    formatTable(columns, rows),
    '',
    'Assumed:',
    `  a machine costs ${formatUsd(assumptions.gpu_pusd_per_hour)} USD an hour (--gpu-usd-per-hour)`,
    `  stored adapters cost ${formatUsd(assumptions.storage_pusd_per_gib_month)} USD per GiB and ` +
      'month (--storage-usd-per-gib-month)',
    `  hosts are planned to be ${assumptions.utilization_percent}% busy (--utilization)`,
    ...assumptions.notes.map((note) => `  ${note}`),
    'Measured:',
    ...assumptions.measured.map((source) => `  ${source}`),
  ].join('\n')
}
