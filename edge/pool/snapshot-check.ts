/**
 * What is not believed of a report or of a snapshot of the pool. A report that no host can mean is
 * refused, and the host's last good one stays; a snapshot that no pool can be is refused whole.
 * Pure: reports in, faults out.
 */
import { z } from 'zod'
import type { HostRow } from '#db/queries/hosts.ts'
import { type Heartbeat, heartbeat } from '#protocol'
import { HOST_CLAIM_MAX, HOST_CONTEXT_MAX, HOST_WAIT_MS_MAX, HOSTS_MAX } from '../limits.ts'

/** Why something was not taken; each is counted under its name. */
export type SnapshotFault = 'absurd' | 'older' | 'url_taken' | 'too_many' | 'empty' | 'halved'

const CLAIMS = [
  'sequences_running',
  'sequences_max',
  'queue_depth',
  'queue_depth_max',
  'slots',
  'slots_in_use',
] as const

/** Field and reason of the first thing that no host can mean; null = none. */
export function absurdityOf(report: Omit<Heartbeat, 'adapters'>): [string, string] | null {
  const { url, load } = report
  if (!isHostUrl(url)) return ['url', 'must be an http(s) URL without a user']
  for (const field of CLAIMS) {
    if (load[field] <= HOST_CLAIM_MAX) continue
    return [`load.${field}`, `must be at most ${HOST_CLAIM_MAX}`]
  }
  if (load.wait_ms > HOST_WAIT_MS_MAX)
    return ['load.wait_ms', `must be at most ${HOST_WAIT_MS_MAX}`]
  if (report.context_length > HOST_CONTEXT_MAX) {
    return ['context_length', `must be at most ${HOST_CONTEXT_MAX}`]
  }
  return report.base_model === '' ? ['base_model', 'must not be empty'] : null
}

const report = heartbeat.omit({ adapters: true })
const stored = z.object({ host_id: z.string(), adapters: z.array(z.unknown()) })

/** A row as the heartbeat that it was written from; null = it is none, or absurd. */
export function parseRow(row: HostRow): Heartbeat | null {
  const parsed = report.safeParse(row.heartbeat)
  const { success: hasAdapters } = stored.safeParse(row.heartbeat)
  if (!parsed.success || !hasAdapters || absurdityOf(parsed.data) !== null) return null
  // Parsed one by one when it came over the wire: up to 100,000 of them, each second, from each.
  return { ...parsed.data, adapters: row.heartbeat.adapters as Heartbeat['adapters'] }
}

/**
 * Whether a snapshot is not to be believed in what it lacks. `expected`: hosts that the snapshot
 * before had, and that were heard of so recently that silence alone cannot have taken them out.
 */
export function vanishingOf(
  expected: readonly string[],
  rows: readonly HostRow[],
): 'empty' | 'halved' | null {
  if (expected.length === 0) return null
  if (rows.length === 0) return 'empty'
  const present = new Set(rows.map(({ id }) => id))
  const gone = expected.filter((id) => !present.has(id))
  return gone.length > expected.length / 2 ? 'halved' : null
}

export function isTooMany(rows: readonly HostRow[]): boolean {
  return rows.length > HOSTS_MAX
}

/** Whether one report is older than another of the same host. */
export function isOlder(
  { epoch, beat }: Pick<Heartbeat, 'epoch' | 'beat'>,
  than: Pick<Heartbeat, 'epoch' | 'beat'>,
): boolean {
  return epoch < than.epoch || (epoch === than.epoch && beat < than.beat)
}

function isHostUrl(text: string): boolean {
  if (!URL.canParse(text)) return false
  const { protocol, username, password } = new URL(text)
  return /^https?:$/.test(protocol) && username === '' && password === ''
}
