/**
 * A usage event as db takes it: the shape of the wire's, declared again because db imports no
 * sibling. The edge has parsed it.
 */
import type { AdapterSource, FinishReason, UsageSource } from './schema/usage-events.ts'

export interface UsageEvent {
  readonly request_id: string
  /** 1, 2, 3 …; of a request's attempts the highest alone is charged. */
  readonly attempt: number
  readonly tenant_id: string
  readonly key_id: string | null
  readonly model: string
  readonly model_id: string | null
  readonly adapter_version_id: string | null
  readonly adapter_digest: string | null
  readonly base_model: string
  readonly price_version_id: string | null
  /** Spend leases that the charge is posted against. */
  readonly lease_ids: readonly string[]
  readonly host_id: string
  readonly epoch: number
  readonly prompt_tokens: number
  readonly cached_prompt_tokens: number
  readonly completion_tokens: number
  readonly finish_reason: FinishReason
  readonly gpu_us: number
  readonly queue_us: number
  readonly ttft_us: number | null
  readonly swap_us: number
  readonly adapter_bytes: number
  readonly adapter_source: AdapterSource
  /** ISO 8601, UTC. */
  readonly started_at: string
  readonly ended_at: string
  readonly source: UsageSource
}
