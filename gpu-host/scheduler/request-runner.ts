/**
 * What the host's routes and heartbeat need of whatever runs requests: the scheduler, which steps
 * an engine of its own, or vllm/vllm-runner.ts, which passes them on to a server.
 */
import type { CancelReceipt, CancelRequest, GenerateEvent, GenerateRequest } from '../protocol.ts'
import type { PageCounts } from './page-pool.ts'

/** A running request, as its one consumer sees it. */
export interface Generation {
  readonly promptTokens: number
  /** Events in order; null after the last. Not reading pauses this request alone. */
  next(): Promise<GenerateEvent | null>
  /** The client is gone: ends the request before the next step. Idempotent. */
  cancel(): void
}

export interface SchedulerLoad {
  readonly sequencesRunning: number
  readonly sequencesMax: number
  readonly queueDepth: number
  readonly queueDepthMax: number
  readonly slots: number
  readonly slotsInUse: number
  readonly kvTokensMax: number
  /** Of prefixes that nobody uses now too: they are given up for whoever needs room. */
  readonly kvTokensFree: number
  /** How long the request of a tenant that has none here would wait for its start. */
  readonly waitMs: number
}

/** A tenant with requests in the queue. */
export interface WaitingTenant {
  readonly tenantId: string
  /** Its share of a host that cannot serve all, as a multiple of others'. */
  readonly weight: number
  /** How long its oldest has waited. */
  readonly waitUs: number
}

export interface RequestRunner {
  /** Throws or rejects with HostError; nothing is owed for what was not accepted. */
  submit(request: GenerateRequest): Generation | Promise<Generation>
  /** The client has left: ends the attempt, or corrects it where it is settled already. */
  cancel(cancel: CancelRequest): CancelReceipt['outcome']
  load(): SchedulerLoad
  /** Each tenant once. */
  waitingTenants(): readonly WaitingTenant[]
  /** Sequences that run or wait, by the digest of their adapter. */
  sequencesByAdapter(): Map<string, number>
  /** Pages of the KV pool. */
  readonly kvPages: PageCounts
  readonly isDraining: boolean
  /** The engine has failed of late: the host does not call itself healthy. */
  readonly isFailing: boolean
  /** Whether a request that came now would be let in, as far as the engine goes. */
  readonly isServing: boolean
  /** Refuses new requests from now on; running ones go on. */
  startDraining(): void
  /** Lets new requests in again. */
  stopDraining(): void
  /** Resolves when no request is queued or running. */
  idle(): Promise<void>
  /** Ends what still runs with `host_draining`. The engine may be closed after it. */
  close(): Promise<void>
}
