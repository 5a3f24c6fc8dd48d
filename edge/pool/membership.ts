/**
 * The pool's members, each as the newest report of it that this edge knows, wherever it came from.
 * Keeps two rules: an older report never takes the place of a newer one, and what a snapshot lacks
 * is gone only when the host was not heard of for HOST_SEEN_MS_MAX.
 */
import type { HostRow } from '#db/queries/hosts.ts'
import type { Heartbeat } from '#protocol'
import { HOST_SEEN_MS_MAX, HOST_SILENT_MS, POOL_VIEW_TTL_MS } from '../limits.ts'
import type { AdapterTier } from './pick-host.ts'
import { isOlder, isTooMany, parseRow, type SnapshotFault, vanishingOf } from './snapshot-check.ts'

export interface Member {
  readonly heartbeat: Heartbeat
  /** The pool's time at which some edge received it. */
  readonly seenMs: number
  /** It came to this very edge. */
  readonly isDirect: boolean
  /** Made on the first question: a heartbeat may name 100,000 adapters. */
  adapters: ReadonlyMap<string, AdapterState> | null
}

interface AdapterState {
  readonly tier: AdapterTier
  readonly sequences: number
}

/** `known`: nothing new. `stale`: of an older start of the host, which must not serve. */
export type Taken = 'taken' | 'known' | 'stale' | 'url_taken'

/** hostId: '' = the whole snapshot. */
export interface Refusal {
  readonly hostId: string
  readonly fault: SnapshotFault
}

interface StoredReport {
  readonly epoch: number
  readonly beat: number
  readonly seenMs: number
}

export class Membership {
  /** Told of each report that was newer than what was known. */
  readonly #onNewer: (heartbeat: Heartbeat, seenMs: number) => void
  readonly #members = new Map<string, Member>()
  /** By URL, which only one host can have. */
  readonly #owners = new Map<string, string>()
  /** As the last snapshot had them. */
  #stored = new Map<string, StoredReport>()

  constructor(onNewer: (heartbeat: Heartbeat, seenMs: number) => void) {
    this.#onNewer = onNewer
  }

  get size(): number {
    return this.#members.size
  }

  get(hostId: string): Member | undefined {
    return this.#members.get(hostId)
  }

  all(): Member[] {
    return [...this.#members.values()]
  }

  take(heartbeat: Heartbeat, seenMs: number, isDirect: boolean): Taken {
    const { host_id: hostId, url } = heartbeat
    const known = this.#members.get(hostId)
    if (known !== undefined) {
      if (heartbeat.epoch < known.heartbeat.epoch) return 'stale'
      if (isOlder(heartbeat, known.heartbeat)) return 'known'
      if (!isDirect && !isOlder(known.heartbeat, heartbeat)) return this.#seenAgain(known, seenMs)
    }
    if (this.#isTaken(heartbeat, seenMs)) return 'url_taken'
    if (known !== undefined) this.#disown(known)
    this.#owners.set(url, hostId)
    this.#members.set(hostId, { heartbeat, seenMs, isDirect, adapters: null })
    this.#onNewer(heartbeat, seenMs)
    return 'taken'
  }

  /** Takes what a snapshot has; `readMs`: the pool's time at which it was asked for. */
  merge(rows: readonly HostRow[], readMs: number): Refusal[] {
    if (isTooMany(rows)) return [{ hostId: '', fault: 'too_many' }]
    const refusals: Refusal[] = []
    const expected = [...this.#stored].filter(
      ([, { seenMs }]) => seenMs >= readMs - HOST_SEEN_MS_MAX,
    )
    const vanishing = vanishingOf(
      expected.map(([hostId]) => hostId),
      rows,
    )
    if (vanishing !== null) refusals.push({ hostId: '', fault: vanishing })
    // Those that are missing stay expected, until silence alone explains it.
    const stored = new Map(vanishing === null ? [] : expected)
    for (const row of rows) {
      const fault = this.#mergeRow(row, stored)
      if (fault !== null) refusals.push({ hostId: row.id, fault })
    }
    this.#stored = stored
    return refusals
  }

  forget(hostId: string): void {
    const member = this.#members.get(hostId)
    this.#stored.delete(hostId)
    if (member === undefined) return
    this.#members.delete(hostId)
    this.#disown(member)
  }

  /** The host said so itself; its next report counts again. */
  markDraining(hostId: string): void {
    const member = this.#members.get(hostId)
    if (member === undefined) return
    const heartbeat: Heartbeat = { ...member.heartbeat, status: 'draining' }
    this.#members.set(hostId, { ...member, heartbeat })
  }

  /** Two heartbeats are missing. What came by way of the database may be a snapshot older. */
  isSilent({ seenMs, isDirect }: Member, nowMs: number): boolean {
    return nowMs - seenMs > HOST_SILENT_MS + (isDirect ? 0 : POOL_VIEW_TTL_MS)
  }

  #mergeRow(row: HostRow, stored: Map<string, StoredReport>): SnapshotFault | null {
    const heartbeat = parseRow(row)
    if (heartbeat === null) return 'absurd'
    const { epoch, beat } = heartbeat
    const seenMs = row.seenAt.getTime()
    const before = this.#stored.get(row.id)
    if (before !== undefined && isOlder(heartbeat, before)) {
      stored.set(row.id, before)
      return 'older'
    }
    stored.set(row.id, { epoch, beat, seenMs })
    return this.take(heartbeat, seenMs, false) === 'url_taken' ? 'url_taken' : null
  }

  /** The same report, as another edge received it later. */
  #seenAgain(known: Member, seenMs: number): 'known' {
    if (seenMs > known.seenMs) this.#members.set(known.heartbeat.host_id, { ...known, seenMs })
    return 'known'
  }

  #disown({ heartbeat: { url, host_id: hostId } }: Member): void {
    if (this.#owners.get(url) === hostId) this.#owners.delete(url)
  }

  /** Of two hosts with one URL it is the one that started last. */
  #isTaken({ host_id: hostId, url, uptime_ms: uptimeMs }: Heartbeat, seenMs: number): boolean {
    const ownerId = this.#owners.get(url)
    const owner = ownerId === undefined ? undefined : this.#members.get(ownerId)
    if (owner === undefined || owner.heartbeat.host_id === hostId) return false
    const ownerStartMs = owner.seenMs - owner.heartbeat.uptime_ms
    if (ownerStartMs > seenMs - uptimeMs) return true
    this.forget(owner.heartbeat.host_id)
    return false
  }
}

export function adaptersOf(member: Member): ReadonlyMap<string, AdapterState> {
  member.adapters ??= new Map(member.heartbeat.adapters.map((each) => [each.digest, each]))
  return member.adapters
}
