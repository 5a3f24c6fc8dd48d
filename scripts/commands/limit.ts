/** `nozzle limit`: what a tenant, or one of its API keys, may do at most. */
import { formatUsd } from '#db/money.ts'
import { callEdge, toPath } from '../lib/api-client.ts'
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import { keyList, type LimitRow, limitList, limitRow, removedLimit } from '../lib/edge-replies.ts'
import {
  DRY_RUN_FLAG,
  EDGE_FLAGS,
  type EdgeTarget,
  locateEdge,
  resolveTenant,
  TENANT_FLAG,
} from '../lib/edge-target.ts'
import { formatTable } from '../lib/output.ts'
import { requireOperator } from '../lib/require-operator.ts'
import { readUsd } from '../lib/usd.ts'

const COLUMNS = ['SCOPE', 'REQUESTS/MIN', 'TOKENS/MIN', 'AT ONCE', 'USD/MONTH', 'SINCE']
const COUNT_MAX = 1_000_000_000_000
/** Takes a limit away. */
const NO_LIMIT = 'none'

const KEY_FLAG = {
  key: { type: 'string', value: 'key-id', help: 'of this API key (default: of the tenant)' },
} as const

const set: Command = {
  name: 'limit set',
  summary: 'limit a tenant or one of its API keys',
  positionals: [],
  flags: {
    ...TENANT_FLAG,
    ...KEY_FLAG,
    rpm: { type: 'string', value: 'n|none', help: 'requests in any 60 seconds' },
    tpm: {
      type: 'string',
      value: 'n|none',
      help: 'prompt and completion tokens in any 60 seconds',
    },
    concurrency: { type: 'string', value: 'n|none', help: 'requests at once' },
    'monthly-usd': { type: 'string', value: 'usd|none', help: 'charges of a month in UTC' },
    ...EDGE_FLAGS,
    ...DRY_RUN_FLAG,
  },
  details:
    'What is not named stays as it is. A key is held to its own limits and to its tenant’s.\n' +
    'A tenant’s own limits are the operator’s to set. In force everywhere within 10 s.',
  examples: [
    'nozzle limit set --tenant acme --monthly-usd 50 --tpm 200000',
    'nozzle limit set --tenant acme --key key_0a1B2c3D4e5F --rpm 60 --concurrency none',
  ],
  async run(call) {
    const json = readLimits(call)
    const target = locateEdge(call)
    const tenant = await resolveTenant(call, target)
    const key = call.flags.filledText('key') ?? null
    if (call.flags.isSet('dry-run')) {
      await lookUpLimits(call, target, { tenant, key })
      if (key !== null) await requireKey(call, target, { tenant, key })
      const plan = { dry_run: true, action: 'set_limits', tenant, key, ...json }
      call.output.data(plan, `would limit ${key ?? tenant}: ${describe(json)}`)
      return
    }
    const request = {
      method: 'PATCH',
      path: pathOf(tenant, key),
      json,
      signal: call.signal,
    } as const
    const row = await callEdge(target, request, limitRow)
    call.output.data(row, formatTable(COLUMNS, [toCells(row)]))
  },
}

const show: Command = {
  name: 'limit show',
  summary: 'list the limits of a tenant and its API keys',
  positionals: [],
  flags: { ...TENANT_FLAG, ...EDGE_FLAGS },
  examples: ['nozzle limit show --tenant acme'],
  async run(call) {
    const target = locateEdge(call)
    const path = pathOf(await resolveTenant(call, target), null)
    const limits = await callEdge(target, { method: 'GET', path, signal: call.signal }, limitList)
    call.output.data(limits, formatTable(COLUMNS, limits.data.map(toCells)))
  },
}

const remove: Command = {
  name: 'limit rm',
  summary: 'take all limits of a tenant or an API key away',
  positionals: [],
  flags: { ...TENANT_FLAG, ...KEY_FLAG, ...EDGE_FLAGS, ...DRY_RUN_FLAG },
  examples: ['nozzle limit rm --tenant acme --key key_0a1B2c3D4e5F'],
  async run(call) {
    const target = locateEdge(call)
    const tenant = await resolveTenant(call, target)
    const key = call.flags.filledText('key') ?? null
    if (call.flags.isSet('dry-run')) {
      const limits = await lookUpLimits(call, target, { tenant, key })
      if (!limits.some((row) => row.key_id === key)) {
        throw new CliError('not_found', `no limits of ${key ?? tenant} are set`)
      }
      const plan = { dry_run: true, action: 'remove_limits', tenant, key }
      call.output.data(plan, `would take the limits of ${key ?? tenant} away`)
      return
    }
    const request = { method: 'DELETE', path: pathOf(tenant, key), signal: call.signal } as const
    const removed = await callEdge(target, request, removedLimit)
    call.output.data(removed, `${key ?? tenant}  no limits of its own`)
  },
}

function pathOf(tenant: string, key: string | null): string {
  const scope = toPath('v1', 'tenants', tenant) + (key === null ? '' : toPath('keys', key))
  return `${scope}/limits`
}

interface Scope {
  readonly tenant: string
  /** null = the tenant itself. */
  readonly key: string | null
}

/** Fails as a change of these limits would, but for a key that is not there. */
async function lookUpLimits(call: CommandCall, target: EdgeTarget, { tenant, key }: Scope) {
  if (key === null) await requireOperator(target, call.signal)
  const request = { method: 'GET', path: pathOf(tenant, null), signal: call.signal } as const
  return (await callEdge(target, request, limitList)).data
}

async function requireKey(call: CommandCall, target: EdgeTarget, scope: Scope): Promise<void> {
  const path = toPath('v1', 'tenants', scope.tenant, 'keys')
  const keys = await callEdge(target, { method: 'GET', path, signal: call.signal }, keyList)
  if (keys.data.some(({ id }) => id === scope.key)) return
  const message = `${scope.tenant} has no key ${scope.key}`
  throw new CliError('not_found', message, 'See `nozzle key ls`.')
}

/** What a change says: `5 requests/min, budget 50.00 USD`. */
function describe(limits: LimitChange): string {
  const units = {
    requests_per_minute: 'requests/min',
    tokens_per_minute: 'tokens/min',
    concurrency: 'requests at once',
  } as const
  const counts = Object.entries(units).flatMap(([field, unit]) => {
    const limit = limits[field]
    if (limit === undefined) return []
    return [limit === null ? `any number of ${unit}` : `${limit} ${unit}`]
  })
  const pusd = limits.monthly_spend_pusd
  if (pusd === undefined) return counts.join(', ')
  const budget = pusd === null ? 'no budget' : `budget ${formatUsd(BigInt(pusd))} USD a month`
  return [...counts, budget].join(', ')
}

type LimitChange = Readonly<Record<string, number | string | null>>

function readLimits(call: CommandCall): LimitChange {
  const json: Record<string, number | string | null> = {}
  const fields = [
    ['rpm', 'requests_per_minute'],
    ['tpm', 'tokens_per_minute'],
    ['concurrency', 'concurrency'],
  ] as const
  for (const [flag, field] of fields) {
    const text = call.flags.text(flag)
    if (text === undefined) continue
    json[field] = text === NO_LIMIT ? null : (call.flags.integer(flag, 0, COUNT_MAX) ?? null)
  }
  const usd = call.flags.text('monthly-usd')
  if (usd !== undefined) json.monthly_spend_pusd = usd === NO_LIMIT ? null : toPusd(usd)
  if (Object.keys(json).length > 0) return json
  throw new CliError('usage', 'name a limit: --rpm, --tpm, --concurrency or --monthly-usd')
}

function toPusd(text: string): string {
  return String(readUsd('monthly-usd', text, `, or "${NO_LIMIT}"`))
}

function toCells(row: LimitRow): (string | number)[] {
  const { monthly_spend_pusd: pusd } = row
  return [
    row.key_id ?? 'tenant',
    row.requests_per_minute ?? '-',
    row.tokens_per_minute ?? '-',
    row.concurrency ?? '-',
    pusd === null ? '-' : formatUsd(BigInt(pusd)),
    row.updated_at,
  ]
}

export const limitCommands: readonly Command[] = [set, show, remove]
