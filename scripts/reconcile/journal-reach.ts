/** How far back the journals of hosts reach: which events they must hold. Pure. */
import type { UsageEvent } from '#protocol'
import type { JournalBook } from './journal-dump.ts'

/**
 * `must_hold` = nothing of its time was given up. `given_up` = perhaps in a segment that was
 * shipped and removed. `no_journal` = of a host of which no journal is here.
 */
export type Reach = 'must_hold' | 'given_up' | 'no_journal'

interface HostReach {
  /** From this epoch on nothing was given up; Infinity = the first segment is gone. */
  readonly fromEpoch: number
  /** When the oldest event that is still there ended; Infinity = there is none. */
  readonly oldestMs: number
}

const NOWHERE: HostReach = { fromEpoch: Infinity, oldestMs: Infinity }

export class JournalReach {
  readonly #hosts = new Map<string, HostReach>()

  constructor(journals: readonly JournalBook[]) {
    for (const { hosts, events, holdsFromEpoch } of journals) {
      for (const host of hosts) this.#extend(host, { fromEpoch: holdsFromEpoch ?? Infinity })
      for (const { host_id, ended_at } of events) {
        this.#extend(host_id, { oldestMs: Date.parse(ended_at) })
      }
    }
  }

  of({ host_id, epoch, ended_at }: UsageEvent): Reach {
    const reach = this.#hosts.get(host_id)
    if (reach === undefined) return 'no_journal'
    const isHeld = epoch >= reach.fromEpoch || Date.parse(ended_at) > reach.oldestMs
    return isHeld ? 'must_hold' : 'given_up'
  }

  #extend(host: string, further: Partial<HostReach>): void {
    const known = this.#hosts.get(host) ?? NOWHERE
    this.#hosts.set(host, {
      fromEpoch: Math.min(known.fromEpoch, further.fromEpoch ?? Infinity),
      oldestMs: Math.min(known.oldestMs, further.oldestMs ?? Infinity),
    })
  }
}
