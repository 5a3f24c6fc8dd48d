/**
 * The pool's hosts, for the operator: what each last said of itself, and what is wanted of it. A
 * wish is stored, told to the host at once, and again in the answer to each of its heartbeats, so
 * that it outlives the host's restart and reaches every edge.
 */
import { z } from 'zod'
import { isOutage } from '#db/errors.ts'
import { listHostWishes, removeHost, setHostWish } from '#db/queries/host-wishes.ts'
import { listHosts, recordHeartbeat } from '#db/queries/hosts.ts'
import type { Heartbeat, HostWish } from '#protocol'
import type { Deps } from '../deps.ts'
import { EdgeError } from '../errors.ts'
import { HOST_LISTED_MS, HOST_SEEN_MS_MAX } from '../limits.ts'
import { parseValue } from '../read-body.ts'
import type { EdgeContext } from '../request-context.ts'
import { accessAsOperator, audit } from '../tenant-access.ts'

/** A member of the pool, as far as it is known. */
interface Member {
  readonly id: string
  readonly wish: HostWish
  /** null = it never reported, or long ago. */
  readonly report: Heartbeat | null
  /** null = not known: the database is away. */
  readonly seenMs: number | null
}

export const dropQuery = z.object({
  force: z.stringbool().default(false),
  /** Says what would be. */
  dry_run: z.stringbool().default(false),
})

/** Enough for a page; a heartbeat may name 100,000. */
const RESIDENCY_SHOWN_MAX = 1000

export function showHosts(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    await accessAsOperator(deps, c)
    const members = await listMembers(deps)
    return c.json({ data: members.map((member) => toWire(deps, member)) })
  }
}

export function showHost(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    await accessAsOperator(deps, c)
    return c.json(toWire(deps, await findMember(deps, c)))
  }
}

/** POST …/drain and …/resume: 200 with the host as it is after it. */
export function wishOfHost(deps: Deps, wish: HostWish): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    await accessAsOperator(deps, c)
    const asked = c.req.param('host') ?? ''
    const known = await seekMember(deps, c)
    // One that was removed may be wanted again: its wish is still kept.
    const isWanted = known !== null || (wish === 'serve' && (await hasWish(deps, asked)))
    if (!isWanted) throw noSuchHost(asked)
    const id = known?.id ?? asked
    await setHostWish(deps.db, { id, wish })
    deps.wishes.note(id, wish)
    const action = wish === 'drain' ? 'host.drain' : 'host.resume'
    await audit(deps, c, { tenantId: null, action, subject: id })
    const report = known === null ? null : await tell(deps, c, known, wish)
    const seenMs = report === null ? (known?.seenMs ?? null) : deps.nowMs()
    return c.json(toWire(deps, { id, wish, report: report ?? known?.report ?? null, seenMs }))
  }
}

/**
 * DELETE …: of a host that is drained or gone, or of any with `?force=true`. With `?dry_run=true`
 * it is refused just so, or answered with the host as it stays.
 */
export function dropHost(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    await accessAsOperator(deps, c)
    const member = await findMember(deps, c)
    const wish = parseValue(dropQuery, c.req.query())
    if (!wish.force) refuseInUse(deps, member)
    if (wish.dry_run) return c.json(toWire(deps, member))
    await tell(deps, c, member, 'drain')
    await removeHost(deps.db, member.id)
    deps.wishes.note(member.id, 'drain')
    await audit(deps, c, { tenantId: null, action: 'host.remove', subject: member.id })
    deps.pool.forget(member.id)
    return c.json({ host_id: member.id, removed: true })
  }
}

async function listMembers(deps: Deps): Promise<Member[]> {
  const seenAfter = new Date(deps.nowMs() - HOST_LISTED_MS)
  try {
    const [rows, wishes] = await Promise.all([
      listHosts(deps.db, { seenAfter }),
      listHostWishes(deps.db),
    ])
    const wishOf = new Map(wishes.map((row) => [row.hostId, row]))
    const seen = rows
      .filter(({ id }) => (wishOf.get(id)?.removedAt ?? null) === null)
      .map(({ id, heartbeat, seenAt }) => {
        // Stored by this same wire type, on the way in.
        const report = heartbeat as Heartbeat
        return { id, wish: wishOf.get(id)?.wish ?? 'serve', report, seenMs: seenAt.getTime() }
      })
    const ids = new Set(rows.map(({ id }) => id))
    const gone = wishes
      .filter(({ hostId, wish, removedAt }) => {
        return removedAt === null && wish === 'drain' && !ids.has(hostId)
      })
      .map(({ hostId, wish }) => ({ id: hostId, wish, report: null, seenMs: null }))
    return [...seen, ...gone]
  } catch (error) {
    if (!isOutage(error)) throw error
    return deps.pool.known().map((report) => {
      const wish = report.status === 'draining' ? 'drain' : 'serve'
      return { id: report.host_id, wish, report, seenMs: null }
    })
  }
}

/** By id, else by a name that is no other's. */
async function seekMember(deps: Deps, c: EdgeContext): Promise<Member | null> {
  const asked = c.req.param('host')
  const members = await listMembers(deps)
  const byId = members.find(({ id }) => id === asked)
  if (byId !== undefined) return byId
  const named = members.filter(({ report }) => report?.host_name === asked)
  if (named.length <= 1) return named[0] ?? null
  const ids = named.map(({ id }) => id).join(', ')
  const message = `${named.length} hosts are called "${asked}", name one by its id: ${ids}`
  throw new EdgeError('invalid_request', message, { param: 'host' })
}

async function findMember(deps: Deps, c: EdgeContext): Promise<Member> {
  const member = await seekMember(deps, c)
  if (member !== null) return member
  throw noSuchHost(c.req.param('host') ?? '')
}

async function hasWish(deps: Deps, id: string): Promise<boolean> {
  return (await listHostWishes(deps.db)).some(({ hostId }) => hostId === id)
}

function noSuchHost(id: string): EdgeError {
  return new EdgeError('not_found', `There is no host "${id}".`)
}

async function tell(
  deps: Deps,
  c: EdgeContext,
  { report }: Member,
  wish: HostWish,
): Promise<Heartbeat | null> {
  if (report === null) return null
  const call = { requestId: c.get('requestId'), signal: c.req.raw.signal }
  const answer = await deps.hostCommands.tell(report.url, wish, call)
  // Another process may listen there by now.
  if (answer?.host_id !== report.host_id) return null
  deps.pool.observe(answer)
  // Other edges need not wait for its next heartbeat.
  await recordHeartbeat(deps.db, answer, new Date(deps.nowMs()))
  return answer
}

function refuseInUse(deps: Deps, member: Member): void {
  const { report } = member
  if (report === null || isSilent(deps, member)) return
  const { sequences_running, queue_depth } = report.load
  if (report.status === 'draining' && sequences_running + queue_depth === 0) return
  throw new EdgeError('host_in_use', `The host "${member.id}" serves: drain it first, or force it.`)
}

function isSilent(deps: Deps, { seenMs }: Member): boolean {
  return seenMs !== null && deps.nowMs() - seenMs > HOST_SEEN_MS_MAX
}

function toWire(deps: Deps, member: Member) {
  const { id, wish, report, seenMs } = member
  const last_seen_at = seenMs === null ? null : new Date(seenMs).toISOString()
  const state = { host_id: id, wish, last_seen_at }
  if (report === null) return { ...state, status: 'gone' }
  const { adapters, stored_ago_ms: _, ...facts } = report
  const tiers = { slot: 0, ram: 0, disk: 0 }
  for (const { tier } of adapters) tiers[tier] += 1
  const status = isSilent(deps, member) ? 'silent' : report.status
  const residency = adapters.slice(0, RESIDENCY_SHOWN_MAX)
  return { ...facts, ...state, status, adapters: tiers, residency }
}
