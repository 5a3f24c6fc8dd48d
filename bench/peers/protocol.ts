/**
 * What the benchmark asks of a peer, and how a peer in a process of its own is spoken to: a line of
 * JSON on its stdin per question, a line of JSON on its file descriptor 3 per answer (stdout and
 * stderr stay free for what the peer prints).
 */
import { z } from 'zod'

export const ANSWER_DESCRIPTOR = 3

/** Idle worker threads spin for a moment after their last work; the next runner waits it out. */
export const SETTLE_MS = 300

/** Which adapter each of the N requests has: its own, all the same, or none. */
export const WORKLOADS = ['distinct', 'same', 'base'] as const
export type Workload = (typeof WORKLOADS)[number]

/** Request i begins with token FIRST_TOKEN + i · TOKEN_STRIDE, at every peer and at ours. */
const FIRST_TOKEN = 300
const TOKEN_STRIDE = 31
export function promptOf(request: number): number {
  return FIRST_TOKEN + request * TOKEN_STRIDE
}

export const peerRun = z.object({
  tokensPerSecond: z.number().positive(),
  /** Completion of each request. */
  completions: z.array(z.array(z.int().min(0))),
})
/** N requests at once, greedily, each of `completionTokens` after a prompt of one token. */
export type PeerRun = z.infer<typeof peerRun>

export interface Peer {
  /** Versions and settings it runs with, for the report. */
  readonly settings: Readonly<Record<string, unknown>>
  run(workload: Workload): Promise<PeerRun>
  stop(): Promise<void>
}

/** First line that a peer's process is sent. */
export const peerSetup = z.object({
  /** GGUF file or Hugging Face folder. */
  modelPath: z.string(),
  /** GGUF LoRA files or PEFT folders, one per request. */
  adapterPaths: z.array(z.string()),
  rank: z.int(),
  threads: z.int(),
  completionTokens: z.int(),
  /** Prompt of each request: one token, so that what is measured is decoding. */
  prompts: z.array(z.int()),
})
export type PeerSetup = z.infer<typeof peerSetup>

/** A later line. */
export const peerQuestion = z.object({ workload: z.enum(WORKLOADS) })

export const peerAnswer = z.union([
  z.object({ ready: z.record(z.string(), z.unknown()) }),
  z.object({ run: peerRun }),
  z.object({ failed: z.string() }),
])
export type PeerAnswer = z.infer<typeof peerAnswer>
