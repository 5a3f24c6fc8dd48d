/** What `nozzle doctor` looks at of a pool: its edge, this key, its hosts, and what they share. */
import { z } from 'zod'
import { GRANT_SKEW_S } from '#protocol'
import { callEdge } from '../lib/api-client.ts'
import { causeText } from '../lib/cause-text.ts'
import { CliError } from '../lib/cli-error.ts'
import { readSecrets } from '../lib/data-dir.ts'
import { caller, type HostRow, hostList } from '../lib/edge-replies.ts'
import type { EdgeTarget } from '../lib/edge-target.ts'
import { runHostTool } from '../lib/host-tool.ts'
import { type DoctorPlace, type Finding, fail, ok, warn } from './finding.ts'
import { parseLine } from './record-checks.ts'

const WAIT_MS = 5000

export interface PoolPlace extends DoctorPlace {
  readonly target: EdgeTarget
  /** Of this checkout: what hosts are held to. */
  readonly version: string
}

export interface PoolCheck {
  readonly name: string
  run(place: PoolPlace): Promise<Finding>
}

export const POOL_CHECKS: readonly PoolCheck[] = [
  { name: 'edge', run: checkEdge },
  { name: 'clock', run: checkClock },
  { name: 'edge clock', run: checkEdgeClock },
  { name: 'key', run: checkKey },
  { name: 'pool secret', run: checkSecret },
  { name: 'hosts', run: checkHosts },
]

const health = z.looseObject({
  status: z.enum(['ok', 'degraded']),
  base_model: z.string(),
  hosts_ready: z.int(),
  database_away_s: z.int().optional(),
})
const DATABASE_FIX = 'Look at the database, and at NOZZLE_DATABASE_URL where the edge runs.'

async function checkEdge(place: PoolPlace): Promise<Finding> {
  const { edgeUrl } = place.target
  try {
    const response = await get(place, '/healthz')
    if (response.status >= 500) return fail(`${edgeUrl}: its database is away`, DATABASE_FIX)
    const found = health.safeParse(await response.json().catch(() => null))
    if (!found.success) return fail(`${edgeUrl} is no edge of Nozzle`, 'Correct the edge URL.')
    const { status, database_away_s: awayS = 0 } = found.data
    if (status === 'ok') return ok(`${edgeUrl}, with its database`)
    const detail = `${edgeUrl}: its database has been away for ${awayS} s; known keys still work`
    return fail(detail, DATABASE_FIX)
  } catch (error) {
    const fix = 'Start it (`nozzle up`), or correct the edge URL; is a proxy or firewall between?'
    return fail(`${edgeUrl} does not answer: ${causeText(error)}`, fix)
  }
}

/** Whoever signs for the other must agree on the time: hosts, edges and this machine. */
async function checkClock(place: PoolPlace): Promise<Finding> {
  const asked = place.nowMs()
  const date = Date.parse((await get(place, '/healthz')).headers.get('date') ?? '')
  if (Number.isNaN(date)) return ok('the edge does not say its time')
  // The header says whole seconds, of some moment on the way.
  const aheadS = Math.round(((asked + place.nowMs()) / 2 - date - 500) / 1000)
  return judgeClock('this machine', 'the edge', aheadS)
}

async function checkEdgeClock(place: PoolPlace): Promise<Finding> {
  const text = await (await get(place, '/metrics')).text()
  const [, offset] = /^nozzle_edge_clock_offset_seconds ([-+.\deE]+)$/m.exec(text) ?? []
  if (offset === undefined) return ok('the edge does not say it')
  return judgeClock('the edge', 'its database', -Math.round(Number(offset)))
}

function judgeClock(whose: string, other: string, aheadS: number): Finding {
  const size = Math.abs(aheadS)
  if (size < GRANT_SKEW_S) return ok(`within ${Math.max(1, size)} s of that of ${other}`)
  const detail = `${whose} is ${size} s ${aheadS > 0 ? 'ahead of' : 'behind'} ${other}`
  const limit = `beyond ${GRANT_SKEW_S} s signed calls are refused`
  const fix = `Set the clock (timedatectl set-ntp true); ${limit}.`
  return fail(detail, fix)
}

async function checkKey({ target, call }: PoolPlace): Promise<Finding> {
  try {
    const request = { method: 'GET', path: '/v1/whoami', signal: call.signal } as const
    const { tenant, key_id } = await callEdge(target, request, caller)
    return ok(tenant === null ? 'the operator’s' : `${key_id} of tenant ${tenant.name}`)
  } catch (error) {
    if (!(error instanceof CliError)) throw error
    if (error.reason !== 'unauthorized') return fail(error.message, 'See the edge, above.')
    const fix =
      'It was revoked, or is of another pool. `nozzle key create` makes one, `nozzle login` keeps it; ' +
      'which edge and key are taken: `nozzle help environment`.'
    return fail('the edge does not know the key', fix)
  }
}

const edgeCheck = z.object({
  outcome: z.enum(['accepted', 'wrong_secret', 'unclear']),
  why: z.string(),
})

/** The one of a host's environment, else of the pool here. */
async function checkSecret({ call, env, dir, target }: PoolPlace): Promise<Finding> {
  const own = target.profile === null ? readSecrets(dir)?.pool_secret : undefined
  const secret = env.NOZZLE_POOL_SECRET || own
  if (!secret) return ok('not known here; `--env` names the file of a host')
  const tool = { ...call, env: { ...env, NOZZLE_POOL_SECRET: secret } }
  const run = await runHostTool(tool, 'telemetry/edge-check.ts', [target.edgeUrl])
  const reply = parseLine(edgeCheck, run.stdout)
  if (reply?.outcome === 'accepted') return ok('the edge takes what is signed with it')
  if (reply?.outcome === 'wrong_secret') {
    const fix =
      'Give host and edge the same NOZZLE_POOL_SECRET: restart the edge where its own was changed, ' +
      'else write the file of the host anew with `nozzle host add --write-env`.'
    return fail('the edge refuses what is signed with it', fix)
  }
  return warn(`not found out: ${reply?.why ?? run.stderr.slice(0, 300)}`, 'See the edge, above.')
}

async function checkHosts(place: PoolPlace): Promise<Finding> {
  const { target, call } = place
  const { base_model, hosts_ready: ready } = health.parse(
    await (await get(place, '/healthz')).json(),
  )
  const listing = await callEdge(
    target,
    { method: 'GET', path: '/v1/hosts', signal: call.signal },
    hostList,
  ).catch((error: unknown) => {
    // A tenant's key does not see them.
    if (error instanceof CliError && error.reason === 'unauthorized') return null
    throw error
  })
  if (listing === null && ready > 0) return ok(`${ready} serve`)
  const hosts = listing?.data ?? []
  const serving = hosts.filter(({ status }) => status === 'ready')
  if (ready === 0 || (listing !== null && serving.length === 0)) return judgeNone(hosts)
  return judgeHosts(hosts, base_model, place.version)
}

function judgeNone(hosts: readonly HostRow[]): Finding {
  const states = hosts.map((host) => `${nameOf(host)} is ${host.status}`).join(', ')
  const fix =
    '`nozzle logs --pool` says why; `nozzle host resume` ends a drain. A host that never reports ' +
    'has a wrong NOZZLE_EDGE_URL, pool secret or clock: `nozzle doctor --env` there.'
  return fail(states === '' ? 'no host serves' : `no host serves: ${states}`, fix)
}

function judgeHosts(hosts: readonly HostRow[], baseModel: string, version: string): Finding {
  const silent = hosts.filter(({ status }) => status === 'silent')
  const others = hosts.filter((host) => host.version !== undefined && host.version !== version)
  const strange = hosts.filter(({ base_model: own = baseModel }) => own !== baseModel)
  const serving = hosts.filter(({ status }) => status === 'ready').length
  const detail = `${serving} of ${hosts.length} serve`
  if (strange.length > 0) {
    const which = strange.map((host) => `${nameOf(host)} has ${host.base_model}`).join(', ')
    const fix = `The edge gives out ${baseModel}: set NOZZLE_BASE_MODEL of those hosts.`
    return warn(`${detail}; another base model: ${which}`, fix)
  }
  if (others.length > 0) {
    const which = others.map((host) => `${nameOf(host)} is ${host.version}`).join(', ')
    return warn(
      `${detail}; not of release ${version}: ${which}`,
      '`nozzle host roll` restarts them.',
    )
  }
  if (silent.length === 0) return ok(detail)
  const fix = 'Start them again, or `nozzle host rm`.'
  return warn(`${detail}; nothing is heard of ${silent.map(nameOf).join(', ')}`, fix)
}

function nameOf({ host_id, host_name }: HostRow): string {
  return host_name ?? host_id
}

function get({ target, call }: PoolPlace, path: string): Promise<Response> {
  const signal = AbortSignal.any([call.signal, AbortSignal.timeout(WAIT_MS)])
  return fetch(new URL(path, target.edgeUrl), { signal })
}
