/** What the benchmark and its peer process say to each other, over IPC. */

/** Which adapter each of the N requests has: its own, all the same, or none. */
export const WORKLOADS = ['distinct', 'same', 'base'] as const
export type Workload = (typeof WORKLOADS)[number]

export interface PeerSetup {
  readonly entry: string
  readonly modelPath: string
  /** GGUF LoRA files, one per tenant. */
  readonly adapterPaths: readonly string[]
  readonly threads: number
  readonly promptTokens: number
  readonly completionTokens: number
}

export type ToPeer =
  | { readonly type: 'setup'; readonly setup: PeerSetup }
  | { readonly type: 'run'; readonly workload: Workload }

export type FromPeer =
  | { readonly type: 'ready' }
  | { readonly type: 'result'; readonly tokensPerSecond: number }
  | { readonly type: 'failed'; readonly message: string }
