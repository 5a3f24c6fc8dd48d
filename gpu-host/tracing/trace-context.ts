/**
 * W3C trace context: the `traceparent` header ↔ typed ids, and new ones. Pure but for the random
 * source of the platform, which workerd and Node both have.
 */

export interface TraceContext {
  /** 32 lower-case hex digits. */
  readonly traceId: string
  /** 16 of them: the span that what comes next is a child of. */
  readonly spanId: string
  readonly isSampled: boolean
  /** Its digits are random, all of the right-most seven bytes (level 2 of the recommendation). */
  readonly isRandom: boolean
}

const SAMPLED = 1
const RANDOM = 2
const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/
const ZEROS = /^0+$/

/** null = there is none, or it is none: then a trace begins here, as the recommendation has it. */
export function parseTraceparent(header: string | null | undefined): TraceContext | null {
  const [, version, traceId, spanId, flagDigits, rest] =
    TRACEPARENT.exec(header?.trim() ?? '') ?? []
  if (version === undefined || traceId === undefined || spanId === undefined) return null
  // Later versions may say more after the flags; what comes before them stays.
  if (version === 'ff' || (version === '00' && rest !== undefined)) return null
  if (ZEROS.test(traceId) || ZEROS.test(spanId)) return null
  const flags = Number.parseInt(flagDigits ?? '0', 16)
  const isSampled = (flags & SAMPLED) !== 0
  return { traceId, spanId, isSampled, isRandom: (flags & RANDOM) !== 0 }
}

export function toTraceparent({ traceId, spanId, isSampled, isRandom }: TraceContext): string {
  const flags = (isSampled ? SAMPLED : 0) | (isRandom ? RANDOM : 0)
  return `00-${traceId}-${spanId}-0${flags}`
}

export function createTraceId(): string {
  return randomHex(16)
}

export function createSpanId(): string {
  return randomHex(8)
}

/** Not all zeros: one in 2⁶⁴ draws would be, and counts as no id. */
function randomHex(bytes: number): string {
  const drawn = crypto.getRandomValues(new Uint8Array(bytes))
  if (drawn.every((byte) => byte === 0)) return randomHex(bytes)
  return Array.from(drawn, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
