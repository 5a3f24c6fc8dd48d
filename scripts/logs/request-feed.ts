/** A tenant's requests: the last ones, and then each as the edge stores it. */
import { setTimeout as sleep } from 'node:timers/promises'
import { type ApiTarget, callEdge, toPath } from '../lib/api-client.ts'
import { CliError } from '../lib/cli-error.ts'
import { type UsageEventRow, usageEventPage, usageFeedPage } from '../lib/edge-replies.ts'

const POLL_MS = 1000
/** While the edge is away. */
const RETRY_MS = 3000
const PAGE_ROWS_MAX = 1000
/** Looked through for those of one model. */
const PAGES_MAX = 50

export interface FeedWish {
  readonly tenant: string
  /** How many of those that are there already. */
  readonly last: number
  readonly isFollowed: boolean
  readonly isWanted: (event: UsageEventRow) => boolean
  readonly note: (text: string) => void
  readonly signal: AbortSignal
}

/** Oldest first. Followed, it ends when `signal` aborts, and outlives an edge that is away. */
export async function* readRequests(
  target: ApiTarget,
  wish: FeedWish,
): AsyncGenerator<UsageEventRow> {
  const { isFollowed, isWanted, signal } = wish
  // The place to go on from is taken first: what is stored meanwhile comes twice, not never.
  let next = isFollowed ? (await feedPage(target, wish, null)).next : ''
  const shown = new Set<string>()
  for (const event of await readLast(target, wish)) {
    shown.add(versionOf(event))
    yield event
  }
  while (isFollowed && !signal.aborted) {
    const page = await patiently(wish, () => feedPage(target, wish, next))
    if (page === null) return
    for (const event of page.data) {
      if (isWanted(event) && !shown.has(versionOf(event))) yield event
    }
    next = page.next
    if (page.data.length === 0 && (await pause(POLL_MS, signal))) return
  }
}

async function readLast(target: ApiTarget, wish: FeedWish): Promise<UsageEventRow[]> {
  const { tenant, last, isWanted, signal } = wish
  const found: UsageEventRow[] = []
  let after: string | null = null
  for (let pages = 0; found.length < last && pages < PAGES_MAX; pages += 1) {
    const query: Record<string, string> = { limit: String(Math.min(PAGE_ROWS_MAX, last)) }
    if (after !== null) query.after = after
    const events = toPath('v1', 'tenants', tenant, 'usage', 'events')
    const path = `${events}?${new URLSearchParams(query)}`
    const page = await callEdge(target, { method: 'GET', path, signal }, usageEventPage)
    found.push(...page.data.filter(isWanted))
    if (page.next === null) break
    after = page.next
  }
  return found.slice(0, last).reverse()
}

function feedPage(target: ApiTarget, { tenant, signal }: FeedWish, after: string | null) {
  const query = new URLSearchParams({ limit: String(PAGE_ROWS_MAX), ...(after && { after }) })
  const path = `${toPath('v1', 'tenants', tenant, 'usage', 'feed')}?${query}`
  return callEdge(target, { method: 'GET', path, signal }, usageFeedPage)
}

/** Again and again while the edge is away, saying so once. null = aborted. */
async function patiently<T>(wish: FeedWish, work: () => Promise<T>): Promise<T | null> {
  for (let isNoted = false; ; isNoted = true) {
    try {
      return await work()
    } catch (error) {
      if (wish.signal.aborted) return null
      if (!(error instanceof CliError && error.reason === 'unavailable')) throw error
      if (!isNoted) wish.note(`${error.message}; trying again`)
      if (await pause(RETRY_MS, wish.signal)) return null
    }
  }
}

/** true = aborted. */
async function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  await sleep(ms, undefined, { signal }).catch(() => {})
  return signal.aborted
}

function versionOf({ request_id, attempt, superseded }: UsageEventRow): string {
  return `${request_id}/${attempt}/${superseded}`
}
