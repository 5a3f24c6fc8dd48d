/**
 * What the requests of an overload come to: figures of each phase, and how long the wait for first
 * tokens took to come back after it. Pure.
 */
import { percentile, significant } from './statistics.ts'

/** A request as its client saw it; times in milliseconds of one clock. */
export interface Outcome {
  /** When it was due to be sent, and when it was. */
  readonly dueMs: number
  readonly startMs: number
  readonly firstTokenMs: number | null
  readonly endMs: number
  readonly kind: 'served' | 'refused' | 'failed'
  /** Delivered. */
  readonly tokens: number
}

export interface Phase {
  /** Of the capacity: how many requests are due. */
  readonly load: number
  readonly fromMs: number
  readonly toMs: number
}

/** Of admitted requests, looked back on. */
const RECOVERY_WINDOW_MS = 5000
const RECOVERY_STEP_MS = 250
/** How much longer than before the overload a first token may take, to count as recovered. */
const RECOVERED_RATIO = 1.5

/** Percentiles are null where there was nothing to measure. */
export function toPhaseReport({ load, fromMs, toMs }: Phase, outcomes: readonly Outcome[]) {
  const seconds = (toMs - fromMs) / 1000
  const own = outcomes.filter(({ dueMs }) => dueMs >= fromMs && dueMs < toMs)
  const of = (kind: Outcome['kind']) => own.filter((outcome) => outcome.kind === kind)
  const refusedMs = of('refused').map(({ startMs, endMs }) => endMs - startMs)
  const firstMs = own.filter(({ firstTokenMs }) => firstTokenMs !== null).map(ttftOf)
  return {
    load,
    offered_s: significant(own.length / seconds, 3),
    admitted_s: significant((own.length - refusedMs.length) / seconds, 3),
    refused_s: significant(refusedMs.length / seconds, 3),
    failed: of('failed').length,
    goodput_tok_s: significant(goodput(outcomes, fromMs, toMs)),
    ttft_p50_ms: percentileOrNull(firstMs, 0.5),
    ttft_p99_ms: percentileOrNull(firstMs, 0.99),
    refusal_p50_ms: percentileOrNull(refusedMs, 0.5),
    refusal_p99_ms: percentileOrNull(refusedMs, 0.99),
  }
}

/** Tokens a second of replies that came whole; they count as evenly spread over their reply. */
export function goodput(outcomes: readonly Outcome[], fromMs: number, toMs: number): number {
  const within = ({ kind, firstTokenMs, endMs, tokens }: Outcome): number => {
    if (kind !== 'served' || firstTokenMs === null) return 0
    const sharedMs = Math.min(endMs, toMs) - Math.max(firstTokenMs, fromMs)
    return (tokens * Math.max(0, sharedMs)) / (endMs - firstTokenMs)
  }
  const tokens = outcomes.reduce((sum, outcome) => sum + within(outcome), 0)
  return (tokens * 1000) / (toMs - fromMs)
}

/**
 * Seconds of `phase` until, of those admitted in the last `RECOVERY_WINDOW_MS`, the 99th percentile
 * of first tokens is under 1.5 × `baselineMs`. The window may reach back before the phase.
 * null = not within the phase.
 */
export function recoverySeconds(
  outcomes: readonly Outcome[],
  phase: Phase,
  baselineMs: number,
): number | null {
  const admitted = outcomes.filter(({ firstTokenMs }) => firstTokenMs !== null)
  for (let atMs = phase.fromMs; atMs <= phase.toMs; atMs += RECOVERY_STEP_MS) {
    const recent = admitted.filter(
      ({ dueMs }) => dueMs > atMs - RECOVERY_WINDOW_MS && dueMs <= atMs,
    )
    if (recent.length === 0) continue
    if (percentile(recent.map(ttftOf), 0.99) < RECOVERED_RATIO * baselineMs) {
      return (atMs - phase.fromMs) / 1000
    }
  }
  return null
}

function ttftOf({ dueMs, firstTokenMs }: Outcome): number {
  return (firstTokenMs ?? Number.NaN) - dueMs
}

function percentileOrNull(values: readonly number[], fraction: number): number | null {
  return values.length === 0 ? null : significant(percentile(values, fraction))
}
