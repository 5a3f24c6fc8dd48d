/**
 * One choice of a request as the request, its bill and its queue see it, whatever runs it: a
 * sequence of the engine here (sequence.ts) or a stream of a server (vllm/vllm-sequence.ts).
 */
import type { RequestTiming } from '../telemetry/request-timing.ts'
import type { SlotLease } from './adapter-port.ts'
import type { QueuedRequest } from './admission.ts'
import type { LiveRequest } from './live-request.ts'

export type SequenceState = 'queued' | 'starting' | 'prefilling' | 'decoding' | 'ended'

export interface Choice extends QueuedRequest {
  readonly owner: LiveRequest
  /** Index among the owner's choices. */
  readonly choice: number
  readonly timing: RequestTiming
  /** Aborts when the request is ordered to end. */
  readonly abortStart: AbortController
  readonly state: SequenceState
  /** How generation ended by itself; null = it has not. */
  readonly finish: 'stop' | 'length' | null
  readonly lease: Pick<SlotLease, 'swapUs' | 'packBytes'> | null
  readonly gpuUs: number
  /** Tokens drawn, handed over or not. */
  readonly drawnTokens: number
  /** What it has read of the prompt: by rows of its own, or found. */
  readonly promptRead: { readonly rows: number; readonly cachedTokens: number }
  /** Called once, when it leaves the queue. */
  readonly leaveQueue: () => void
}
