/**
 * The edge as the host's outbox meets it on a bad network, in front of a real ledger: calls that
 * never arrive, answers that never come back, batches that arrive again when everything is over.
 */
import type { Db } from '../../db/client.ts'
import { recordUsageEvents } from '../../db/queries/usage.ts'
import type { Clock } from '../../gpu-host/clock.ts'
import { type UsageBatch, usageBatch } from '../../gpu-host/protocol.ts'
import { EdgeClient } from '../../gpu-host/telemetry/edge-client.ts'
import type { Random } from '../../native/test/support/random.ts'

const POOL_SECRET = new TextEncoder().encode('a secret of the fault bench that is long enough')

export class LossyEdge extends EdgeClient {
  isReliable = false
  /** Settles when no call is under way: virtual time has to wait for the ledger. */
  settled: Promise<unknown> = Promise.resolve()
  readonly #db: Db
  readonly #random: Random
  /** Copies that are still on their way. */
  readonly #late: UsageBatch['events'][] = []

  constructor(db: Db, random: Random, clock: Clock) {
    const fetch = () => Promise.reject(new Error('no call goes over a network here'))
    super({ edgeUrl: 'http://edge.test', poolSecret: POOL_SECRET, clock, fetch })
    this.#db = db
    this.#random = random
  }

  override post(_route: string, _requestId: string, value: unknown): Promise<unknown> {
    const reply = this.#take(usageBatch.parse(value).events)
    this.settled = reply.catch(() => {})
    return reply
  }

  /** Everything that was on its way arrives, the last sent first. */
  async deliverLate(): Promise<void> {
    for (const events of this.#late.splice(0).reverse()) await recordUsageEvents(this.#db, events)
  }

  async #take(events: UsageBatch['events']): Promise<unknown> {
    const luck = this.isReliable ? 1 : this.#random.fraction()
    if (luck < 0.2) throw new Error('the call did not arrive')
    if (luck < 0.35) this.#late.push(events)
    if (luck < 0.3) throw new Error('the call arrives later, its sender has given up')
    const receipt = await recordUsageEvents(this.#db, events)
    if (luck < 0.5) throw new Error('the answer did not come back')
    return receipt
  }
}
