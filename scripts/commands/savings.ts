/**
 * `nozzle savings`: what the pool spared against a machine per model, from real events; and
 * `nozzle savings threshold`: from how many tenants on it spares 90% and 99%, from measured
 * throughput.
 */
import { join } from 'node:path'
import { parseUsd } from '#db/money.ts'
import {
  beginAtFirstUse,
  costModels,
  leastHosts,
  type ModelUse,
  projectTenants,
  sumCosts,
} from '#db/savings/pool-savings.ts'
import { callEdge } from '../lib/api-client.ts'
import type { FlagSpecs } from '../lib/argv.ts'
import { callerPath } from '../lib/caller-path.ts'
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import { type ModelUseRow, modelUsePage } from '../lib/edge-replies.ts'
import { EDGE_FLAGS, type EdgeTarget, locateEdge } from '../lib/edge-target.ts'
import { readPeriod } from '../lib/utc-time.ts'
import { readMeasuredHost } from '../savings/measured-host.ts'
import { type SavingsReport, toJson, toText } from '../savings/savings-report.ts'
import { createThresholdReport, thresholdToText } from '../savings/threshold-report.ts'

const PRICE_FLAGS: FlagSpecs = {
  'gpu-usd-per-hour': { type: 'string', value: 'usd', help: 'a machine, on or idle (2.50)' },
  'storage-usd-per-gib-month': { type: 'string', value: 'usd', help: 'stored adapters (0.02)' },
  utilization: { type: 'string', value: 'percent', help: 'busy part planned of a host (50)' },
}

const savings: Command = {
  name: 'savings',
  summary: 'what the pool spared against a machine per model',
  positionals: [],
  flags: {
    tenant: { type: 'string', value: 'name', help: 'models of this tenant alone' },
    start: { type: 'string', value: 'time', help: 'from (UTC; default: below)' },
    end: { type: 'string', value: 'time', help: 'to, excluded (default: now)' },
    hosts: { type: 'string', value: 'count', help: 'hosts that were on (default: those seen)' },
    'cold-start-s': { type: 'string', value: 's', help: 'start of a machine from zero (90)' },
    'keep-warm-s': { type: 'string', value: 's', help: 'a machine stays after a request (300)' },
    tenants: { type: 'string', value: 'count', help: 'also: what so many tenants would cost' },
    top: { type: 'string', value: 'count', help: 'rows of the table (50); --json has all' },
    ...PRICE_FLAGS,
    ...EDGE_FLAGS,
  },
  details:
    'Without --start: from the start of this month, or from the first deploy or request of a pool\n' +
    'that is younger. Every hour of every host is in the bill: the time that no model used is\n' +
    'spread over the models by their use. Models that are only deployed count too: a machine of\n' +
    'their own would wait for them. GPU time is of every attempt at a request; nozzle usage has the\n' +
    'charged ones alone. Needs the operator key. Money is exact in --json (integer pico-USD).',
  examples: [
    'nozzle savings',
    'nozzle savings --start 2026-11-01 --end 2026-12-01 --hosts 2 --gpu-usd-per-hour 1.99',
    'nozzle savings --tenants 1000 --cold-start-s 30 --json',
  ],
  async run(call) {
    const report = await createReport(call, locateEdge(call))
    const rowsMax = call.flags.integer('top', 1, 100_000) ?? 50
    call.output.data(toJson(report), toText(report, rowsMax))
  },
}

async function createReport(call: CommandCall, target: EdgeTarget): Promise<SavingsReport> {
  const { flags } = call
  const coldStartMs = (flags.number('cold-start-s', 0, 86_400) ?? 90) * 1000
  const keepWarmMs = (flags.number('keep-warm-s', 0, 2_592_000) ?? 300) * 1000
  const period = await readPeriodUses(call, target, {
    cold_start_s: String(coldStartMs / 1000),
    keep_warm_s: String(keepWarmMs / 1000),
  })
  const { startMs, endMs, startIs, uses, hostsSeen } = period
  const least = leastHosts(uses, startMs, endMs)
  const given = flags.integer('hosts', 1, 100_000)
  if (given !== undefined && given < least) {
    throw new CliError('usage', `--hosts ${given} cannot have run that use: ${least} at least`)
  }
  const prices = readPrices(call)
  const assumptions = {
    ...{ startMs, endMs, coldStartMs, keepWarmMs },
    hosts: given ?? Math.max(hostsSeen, least),
    gpuPusdPerHour: prices.gpuPusdPerHour,
    storagePusdPerGibMonth: prices.storagePusdPerGibMonth,
  }
  const costs = costModels(uses, assumptions)
  const tenant = flags.text('tenant')
  const shown = tenant === undefined ? costs : costs.filter(({ use }) => use.tenant === tenant)
  if (shown.length === 0 && tenant !== undefined) {
    throw new CliError('not_found', `tenant "${tenant}" has no model in that period`)
  }
  const tenants = flags.integer('tenants', 1, 10_000_000)
  const { utilizationPercent } = prices
  const projection =
    tenants === undefined
      ? null
      : {
          ...projectTenants(costs, tenants, { ...assumptions, utilizationPercent }),
          utilizationPercent,
        }
  const pool = sumCosts(costs)
  return { assumptions, startIs, areHostsSeen: given === undefined, pool, shown, projection }
}

const threshold: Command = {
  name: 'savings threshold',
  summary: 'from how many tenants on a pool spares 90% and 99%',
  positionals: [],
  flags: {
    'requests-per-day': { type: 'string', value: 'count', help: 'of a tenant in use (100)' },
    'prompt-tokens': { type: 'string', value: 'count', help: 'of a request (500)' },
    'completion-tokens': { type: 'string', value: 'count', help: 'of a request (250)' },
    results: { type: 'string', value: 'dir', help: 'folder of measured reports (bench/results)' },
    ...PRICE_FLAGS,
  },
  details:
    'Against a dedicated machine for each tenant, of the same kind and price. From the throughput\n' +
    'that the reports of record hold; asks no pool. For tenants that sleep and for tenants that\n' +
    'are used as stated. scripts/savings/tenant-threshold.ts has the formula.',
  examples: ['nozzle savings threshold', 'nozzle savings threshold --requests-per-day 1000 --json'],
  async run(call) {
    const { flags, projectRoot } = call
    const results = flags.text('results')
    const standard = join(projectRoot, 'bench', 'results')
    const host = readMeasuredHost(results === undefined ? standard : callerPath(call, results))
    const report = createThresholdReport(host, readPrices(call), {
      requestsPerDay: flags.number('requests-per-day', 0, 1e7) ?? 100,
      promptTokens: flags.integer('prompt-tokens', 0, 1e6) ?? 500,
      completionTokens: flags.integer('completion-tokens', 0, 1e6) ?? 250,
    })
    call.output.data(report, thresholdToText(report))
  },
}

export const savingsCommands: readonly Command[] = [savings, threshold]

function readPrices({ flags }: CommandCall) {
  const read = (name: string, standard: string): bigint => {
    const text = flags.text(name) ?? standard
    const pusd = parseUsd(text)
    if (pusd !== null) return pusd
    throw new CliError('usage', `--${name} must be an amount like 2.50, not "${text}"`)
  }
  return {
    gpuPusdPerHour: read('gpu-usd-per-hour', '2.50'),
    storagePusdPerGibMonth: read('storage-usd-per-gib-month', '0.02'),
    utilizationPercent: flags.integer('utilization', 1, 100) ?? 50,
  }
}

/** Without --start a pool that is younger than the month begins with its first use. */
async function readPeriodUses(
  call: CommandCall,
  target: EdgeTarget,
  machine: Readonly<Record<string, string>>,
) {
  const { startMs, endMs } = readPeriod(call.flags)
  const { uses, hostsSeen } = await readUses(call, target, {
    start: new Date(startMs).toISOString(),
    end: new Date(endMs).toISOString(),
    ...machine,
  })
  if (call.flags.text('start') !== undefined) {
    return { startMs, endMs, startIs: 'given', uses, hostsSeen } as const
  }
  const began = beginAtFirstUse(uses, startMs)
  if (began === null) {
    const start = new Date(startMs).toISOString()
    const fix = 'Give --start to reckon an empty pool.'
    throw new CliError('not_found', `nothing was deployed or used since ${start}`, fix)
  }
  const startIs = began.startMs > startMs ? 'first_use' : 'month'
  return { ...began, endMs, startIs, hostsSeen } as const
}

/** All pages. */
async function readUses(
  call: CommandCall,
  target: EdgeTarget,
  wish: Readonly<Record<string, string>>,
): Promise<{ uses: ModelUse[]; hostsSeen: number }> {
  const uses: ModelUse[] = []
  let after: string | null = null
  for (;;) {
    const query = new URLSearchParams({ ...wish, ...(after !== null && { after }) })
    const path = `/v1/pool/model-use?${query}`
    const request = { method: 'GET', path, signal: call.signal } as const
    const page = await callEdge(target, request, modelUsePage)
    uses.push(...page.data.map(toModelUse))
    if (page.next === null) return { uses, hostsSeen: page.hosts_seen }
    after = page.next
  }
}

function toModelUse(row: ModelUseRow): ModelUse {
  return {
    tenant: row.tenant,
    model: row.model,
    baseModel: row.base_model,
    requests: row.requests,
    gpuUs: BigInt(row.gpu_us),
    swapUs: BigInt(row.swap_us),
    storedBytes: BigInt(row.stored_bytes),
    existsFromMs: row.exists_from,
    existsToMs: row.exists_to,
    firstMs: row.first_at,
    runs: row.runs.map(([startMs, endMs, requests]) => ({ startMs, endMs, requests })),
  }
}
