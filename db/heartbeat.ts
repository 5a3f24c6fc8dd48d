/**
 * A host's report as db takes it: the shape of the wire's heartbeat, declared again because db
 * imports no sibling. The edge has parsed it; db stores and returns it whole.
 */

export interface AdapterResidency {
  readonly digest: string
  readonly tier: 'slot' | 'ram' | 'disk'
  readonly sequences: number
}

export interface HostReport {
  readonly host_id: string
  readonly host_name: string
  readonly epoch: number
  readonly beat: number
  readonly uptime_ms: number
  readonly engine: 'native' | 'vllm'
  readonly url: string
  readonly version: string
  readonly base_model: string
  readonly base_digest: string
  readonly status: 'ready' | 'draining'
  readonly load: {
    readonly sequences_running: number
    readonly sequences_max: number
    readonly queue_depth: number
    readonly queue_depth_max: number
    readonly slots: number
    readonly slots_in_use: number
    readonly kv_tokens_max: number
    readonly kv_tokens_free: number
    readonly wait_ms: number
  }
  readonly context_length: number
}

export interface Heartbeat extends HostReport {
  readonly adapters: readonly AdapterResidency[]
}
