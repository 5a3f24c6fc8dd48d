/**
 * Pure: which waiting requests start now. A request whose adapter is pinned already, or that needs
 * none, costs no slot; any other needs a slot that nobody pins. Candidates are in fair order. One
 * that waits for a slot for longer than `slotWaitMaxMs` makes the pinned adapter drain that will be
 * done first: nothing new starts on it until its slot is free, and the slot goes to whoever waited
 * longest. So a cold request is overtaken for at most `slotWaitMaxMs`, and then waits for as long
 * as that adapter's running requests take; popular adapters cannot keep it out.
 */
export interface StartCandidate<T> {
  readonly request: T
  /** null = base model alone. */
  readonly digest: string | null
  /** Time since it was first blocked: passed over for want of a slot while a sequence was free. */
  readonly blockedMs: number
}

export interface SlotSituation {
  /** Adapters pinned by running or starting requests, with the most rows that one has left. */
  readonly pinned: ReadonlyMap<string, number>
  readonly slotCount: number
  readonly sequencesFree: number
  readonly slotWaitMaxMs: number
}

/** Of the free sequences, those that a request may not take; `starting` = what starts before it. */
export type Reserve<T> = (request: T, starting: readonly T[]) => number

export interface StartDecision<T> {
  readonly starts: readonly T[]
  /** Would have started, had there been a slot. */
  readonly blocked: readonly T[]
}

export function pickStarts<T>(
  candidates: readonly StartCandidate<T>[],
  situation: SlotSituation,
  reserve: Reserve<T> = () => 0,
): StartDecision<T> {
  const { slotCount, sequencesFree, slotWaitMaxMs } = situation
  const pinned = new Set(situation.pinned.keys())
  const isStarved = (candidate: StartCandidate<T>): boolean =>
    candidate.digest !== null &&
    !pinned.has(candidate.digest) &&
    candidate.blockedMs > slotWaitMaxMs
  const starved = candidates.filter(isStarved).sort((a, b) => b.blockedMs - a.blockedMs)
  const draining = pickDraining(starved, situation)
  const starts: T[] = []
  const blocked: T[] = []
  const started = new Set<StartCandidate<T>>()
  for (const candidate of [...starved, ...candidates]) {
    if (starts.length >= sequencesFree) break
    if (started.has(candidate)) continue
    const { digest, request } = candidate
    if (sequencesFree - starts.length <= reserve(request, starts)) continue
    if (digest !== null && !pinned.has(digest)) {
      if (pinned.size >= slotCount) {
        blocked.push(request)
        continue
      }
      pinned.add(digest)
    } else if (digest !== null && draining.has(digest)) {
      blocked.push(request)
      continue
    }
    started.add(candidate)
    starts.push(request)
  }
  return { starts, blocked }
}

/** One pinned adapter for each starved one that no free slot can serve, soonest free first. */
function pickDraining<T>(
  starved: readonly StartCandidate<T>[],
  { pinned, slotCount }: SlotSituation,
): Set<string> {
  const waiting = new Set(starved.map(({ digest }) => digest)).size
  const needed = waiting - (slotCount - pinned.size)
  if (needed <= 0) return new Set()
  const soonest = [...pinned].sort(([a, m], [b, n]) => m - n || (a < b ? -1 : 1))
  return new Set(soonest.slice(0, needed).map(([digest]) => digest))
}
