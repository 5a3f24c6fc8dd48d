/**
 * Tells the edge once a second that this host lives, how loaded it is and which adapters it holds.
 * A missed beat is not made up for: only the newest state matters.
 */
import { randomUUID } from 'node:crypto'
import { type Clock, sleep } from '../clock.ts'
import { errorCodeOf } from '../errors.ts'
import { errorText, type Log } from '../log.ts'
import { EDGE_ROUTES, type Heartbeat } from '../protocol.ts'
import type { EdgeClient } from './edge-client.ts'
import type { HostMetrics } from './metrics.ts'

export interface HeartbeatOptions {
  readonly edge: EdgeClient
  readonly status: () => Heartbeat
  readonly metrics: HostMetrics
  readonly clock: Clock
  readonly log: Log
  readonly intervalMs: number
  readonly timeoutMs: number
  /** A newer start of this host has reported: this one must not serve any more. */
  readonly onEpochStale: () => void
}

/** Beats until `signal` aborts; never rejects. */
export async function runHeartbeat(options: HeartbeatOptions, signal: AbortSignal): Promise<void> {
  let isReachable = true
  while (!signal.aborted) {
    const isSent = await beat(options, isReachable)
    if (isSent && !isReachable) options.log('info', 'the edge is reachable again')
    isReachable = isSent
    await sleep(options.clock, options.intervalMs, signal)
  }
}

/**
 * One beat now, for a change that the edge should hear of at once; false when it did not arrive.
 */
export async function beat(options: HeartbeatOptions, isLogged = true): Promise<boolean> {
  const { edge, status, metrics, log, timeoutMs, onEpochStale } = options
  try {
    await edge.post(EDGE_ROUTES.heartbeat, `hbt_${randomUUID()}`, status(), timeoutMs)
    return true
  } catch (error) {
    metrics.heartbeatFailures.inc()
    if (isLogged) log('warn', 'heartbeat not delivered', { reason: errorText(error) })
    if (errorCodeOf(error) === 'host_epoch_stale') onEpochStale()
    return false
  }
}
