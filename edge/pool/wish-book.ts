/**
 * What the operator wants of each host, as this process last heard from the database or was told
 * itself. The database holds every report to it, too (`recordHeartbeat`); this is for the moment
 * before it has answered, and for as long as it is away: a drained host that starts anew says that
 * it is ready until it hears of its drain.
 */
import type { Heartbeat, HostWish } from '#protocol'
import { putLast } from '../bounded-map.ts'
import { HOSTS_MAX } from '../limits.ts'

export class WishBook {
  /** Longest unheard first. */
  readonly #wishes = new Map<string, HostWish>()

  note(hostId: string, wish: HostWish): void {
    putLast(this.#wishes, hostId, wish, HOSTS_MAX)
  }

  /** The report as it counts: of a host that is to drain, draining. */
  hold(report: Heartbeat): Heartbeat {
    return this.#wishes.get(report.host_id) === 'drain' ? { ...report, status: 'draining' } : report
  }
}
