/**
 * Tells an edge once a second that this host lives, how loaded it is and which adapters it holds.
 * A missed beat is not made up for: only the newest state matters. Each edge has a beat of its own,
 * so that one which hangs keeps nothing from the others.
 */
import { randomUUID } from 'node:crypto'
import { type Clock, sleep } from '../clock.ts'
import { errorCodeOf } from '../errors.ts'
import { errorText, type Log } from '../log.ts'
import { EDGE_ROUTES, type Heartbeat, type HostWish, heartbeatReceipt } from '../protocol.ts'
import type { EdgePort } from './edge-client.ts'
import type { HostMetrics } from './metrics.ts'

export interface HeartbeatOptions {
  readonly edge: EdgePort
  readonly status: () => Heartbeat
  readonly metrics: HostMetrics
  readonly clock: Clock
  readonly log: Log
  readonly intervalMs: number
  readonly timeoutMs: number
  /** A newer start of this host has reported: this one must not serve any more. */
  readonly onEpochStale: () => void
  /** What the pool's operator wants of this host. */
  readonly onWish: (wish: HostWish) => void
  /** The database has a heartbeat of this host. */
  readonly onStored: () => void
}

/** An edge that takes its time has so many beats of a host on their way to it, and no more. */
const UNDER_WAY_MAX = 3

/** Beats until `signal` aborts; never rejects. */
export async function runHeartbeat(options: HeartbeatOptions, signal: AbortSignal): Promise<void> {
  let isReachable = true
  const underWay = new Set<Promise<void>>()
  const send = async (): Promise<void> => {
    const isSent = await beat(options, isReachable)
    if (isSent && !isReachable) options.log('info', 'the edge is reachable again')
    isReachable = isSent
  }
  while (!signal.aborted) {
    // They count up, so that one which is overtaken does no harm.
    if (underWay.size < UNDER_WAY_MAX) {
      const sending = send()
      underWay.add(sending)
      void sending.finally(() => underWay.delete(sending))
    }
    await sleep(options.clock, options.intervalMs, signal)
  }
  await Promise.all(underWay)
}

/**
 * One beat now, for a change that the edge should hear of at once; false when it did not arrive.
 */
export async function beat(options: HeartbeatOptions, isLogged = true): Promise<boolean> {
  const { edge, status, metrics, log, timeoutMs, onEpochStale, onWish, onStored } = options
  try {
    const reply = await edge.post(EDGE_ROUTES.heartbeat, `hbt_${randomUUID()}`, status(), timeoutMs)
    // An edge of an earlier release says nothing.
    const { stored = false, wish = null } = heartbeatReceipt.safeParse(reply).data ?? {}
    if (stored) onStored()
    if (wish !== null) onWish(wish)
    return true
  } catch (error) {
    metrics.heartbeatFailures.inc()
    if (isLogged) log('warn', 'heartbeat not delivered', { reason: errorText(error) })
    if (errorCodeOf(error) === 'host_epoch_stale') onEpochStale()
    return false
  }
}
