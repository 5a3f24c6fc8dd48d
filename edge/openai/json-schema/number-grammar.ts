/**
 * Numbers within bounds, digit by digit. Bounds of integers may be any; those of other numbers must
 * be whole, and then every decimal fraction between them can be written. Pure.
 */

export interface NumberBounds {
  /** −Infinity = none. */
  readonly min: number
  readonly max: number
  readonly isMinExclusive: boolean
  readonly isMaxExclusive: boolean
}

/** Digits of a number without bounds on that side. */
const DIGITS_MAX = 15

/** null = no integer lies between. Bounds are safe integers or infinite. */
export function integerGrammar({ min, max, isMinExclusive, isMaxExclusive }: NumberBounds) {
  const low = isMinExclusive ? Math.floor(min) + 1 : Math.ceil(min)
  const high = isMaxExclusive ? Math.ceil(max) - 1 : Math.floor(max)
  if (low > high) return null
  return alternatives([
    low < 0 && `"-" ( ${naturals(Math.max(1, -high), -low)} )`,
    high >= 0 && naturals(Math.max(0, low), high),
  ])
}

/** null = no number lies between. */
export function numberGrammar({ min, max, isMinExclusive, isMaxExclusive }: NumberBounds) {
  const isEmpty = min > max || (min === max && (isMinExclusive || isMaxExclusive))
  if (isEmpty) return null
  return alternatives([
    // Mirrored: from −max up to −min.
    min < 0 &&
      prefixed(
        '"-"',
        decimals(
          { low: Math.max(0, -max), isLowExclusive: max <= 0 ? isMaxExclusive || max === 0 : true },
          { high: -min, isHighExclusive: isMinExclusive },
        ),
      ),
    max >= 0 &&
      decimals(
        { low: Math.max(0, min), isLowExclusive: min >= 0 && isMinExclusive },
        { high: max, isHighExclusive: isMaxExclusive },
      ),
  ])
}

/** low … high ≥ 0, as decimals without exponent; null = none. */
function decimals(
  { low, isLowExclusive }: { readonly low: number; readonly isLowExclusive: boolean },
  { high, isHighExclusive }: { readonly high: number; readonly isHighExclusive: boolean },
): string | null {
  const wholeLow = isLowExclusive ? low + 1 : low
  const wholeHigh = isHighExclusive ? high - 1 : high
  // Digits that a double still tells apart, so that no fraction is read as the bound above it.
  const digits = DIGITS_MAX - String(Number.isFinite(high) ? high : low).length
  const fraction = `"." [0-9]{1,${Math.max(1, digits)}}`
  return alternatives([
    wholeLow <= wholeHigh && naturals(wholeLow, wholeHigh),
    // Above low itself, for every whole part below high.
    wholeLow <= high - 1 && `( ${naturals(wholeLow, high - 1)} ) ${fraction}`,
    isLowExclusive && low < high && `"${low}." [0-9]{0,${Math.max(0, digits - 1)}} [1-9]`,
  ])
}

/** Natural numbers low … high without leading zeros; `high` may be infinite. */
function naturals(low: number, high: number): string {
  const parts: string[] = []
  const first = String(low)
  if (!Number.isFinite(high)) {
    parts.push(sameLength(first, '9'.repeat(first.length)))
    if (first.length < DIGITS_MAX) {
      parts.push(`[1-9] [0-9]{${first.length},${DIGITS_MAX - 1}}`)
    }
    return parts.join(' | ')
  }
  const last = String(high)
  for (let length = first.length; length <= last.length; length++) {
    const from = length === first.length ? first : `1${'0'.repeat(length - 1)}`
    const to = length === last.length ? last : '9'.repeat(length)
    parts.push(sameLength(from, to))
  }
  return parts.join(' | ')
}

/** Digit strings from … to of one length. */
function sameLength(from: string, to: string): string {
  const rest = from.length - 1
  const [low = '', high = ''] = [from[0], to[0]]
  if (rest === 0) return digitRange(low, high)
  if (/^0*$/.test(from) && /^9*$/.test(to)) return `[0-9]{${rest + 1}}`
  if (low === high) return `"${low}" ( ${sameLength(from.slice(1), to.slice(1))} )`
  const isLowWhole = /^0*$/.test(from.slice(1))
  const isHighWhole = /^9*$/.test(to.slice(1))
  const begin = Number(low) + (isLowWhole ? 0 : 1)
  const end = Number(high) - (isHighWhole ? 0 : 1)
  return [
    ...(isLowWhole ? [] : [`"${low}" ( ${sameLength(from.slice(1), '9'.repeat(rest))} )`]),
    ...(begin > end ? [] : [`${digitRange(String(begin), String(end))} [0-9]{${rest}}`]),
    ...(isHighWhole ? [] : [`"${high}" ( ${sameLength('0'.repeat(rest), to.slice(1))} )`]),
  ].join(' | ')
}

function digitRange(low: string, high: string): string {
  return low === high ? `"${low}"` : `[${low}-${high}]`
}

function prefixed(prefix: string, expression: string | null): string | null {
  return expression === null ? null : `${prefix} ( ${expression} )`
}

function alternatives(parts: readonly (string | null | false)[]): string | null {
  const present = parts.filter((part): part is string => typeof part === 'string')
  return present.length === 0 ? null : present.join(' | ')
}
