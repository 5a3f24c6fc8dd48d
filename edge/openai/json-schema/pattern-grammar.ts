/**
 * `pattern` of strings: ECMA regexes without look-around, back-references and word borders → GBNF
 * of the characters as a JSON string writes them. Unanchored ends take any text, as the keyword
 * means.
 */
import { type CodePoints, characterClass, literal, repeated } from './grammar-rules.ts'

/** Its message says what is wrong with the pattern. */
export class PatternError extends Error {}

const NESTING_MAX = 16
const REPETITION_MAX = 10_000
const LAST = 0x10ffff

const DIGIT: CodePoints = [[0x30, 0x39]]
const WORD: CodePoints = [...DIGIT, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]]
const SPACE: CodePoints = [
  ...([0x20, 0xa0, 0x1680, 0x202f, 0x205f, 0x3000, 0xfeff] as const).map((p) => [p, p] as const),
  ...([
    [0x09, 0x0d],
    [0x2000, 0x200a],
    [0x2028, 0x2029],
  ] as const),
]
const LINE_ENDS: CodePoints = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
]
const SETS: Readonly<Record<string, CodePoints>> = {
  d: DIGIT,
  D: complement(DIGIT),
  w: WORD,
  W: complement(WORD),
  s: SPACE,
  S: complement(SPACE),
}
const CONTROLS: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, 0: 0 }
const ANY = complement(LINE_ENDS)

/** What stands between the quotes. Throws PatternError. */
export function patternGrammar(pattern: string): string {
  return new PatternParser(pattern).parse()
}

class PatternParser {
  readonly #signs: readonly string[]
  #at = 0

  constructor(pattern: string) {
    this.#signs = [...pattern]
  }

  parse(): string {
    const parts: string[] = []
    do {
      const isBegun = this.#take('^')
      const body = this.#sequence(0)
      const isEnded = this.#take('$')
      const ends = [isBegun ? '' : 'character*', body, isEnded ? '' : 'character*']
      parts.push(ends.filter((part) => part !== '').join(' '))
    } while (this.#take('|'))
    if (this.#at < this.#signs.length) throw this.#wrong(`"${this.#signs[this.#at]}" stands here`)
    return parts.map((part) => part || '""').join(' | ')
  }

  #peek(): string | undefined {
    return this.#signs[this.#at]
  }

  #take(sign: string): boolean {
    if (this.#peek() !== sign) return false
    this.#at += 1
    return true
  }

  #wrong(what: string): PatternError {
    return new PatternError(`at character ${this.#at + 1}: ${what}`)
  }

  #sequence(depth: number): string {
    const items: string[] = []
    for (let sign = this.#peek(); sign !== undefined; sign = this.#peek()) {
      if (sign === '|' || sign === ')' || sign === '$') break
      const atom = this.#atom(depth)
      items.push(this.#quantified(atom))
    }
    return items.filter((item) => item !== '').join(' ')
  }

  #atom(depth: number): string {
    const sign = this.#signs[this.#at++] ?? ''
    switch (sign) {
      case '(':
        return this.#group(depth + 1)
      case '[':
        return characters(this.#set())
      case '.':
        return characters(ANY)
      case '\\':
        return characters(this.#escape())
      case '^':
        throw this.#wrong('"^" is served at the beginning alone')
      case '*':
      case '+':
      case '?':
      case '{':
      case '}':
      case ']':
        throw this.#wrong(`"${sign}" stands for itself only as "\\${sign}"`)
      default:
        return characters(single(sign.codePointAt(0) ?? 0))
    }
  }

  #group(depth: number): string {
    if (depth > NESTING_MAX) throw this.#wrong(`groups are nested more than ${NESTING_MAX} deep`)
    if (this.#take('?')) {
      const isNamed = this.#peek() === '<' && !['=', '!'].includes(this.#signs[this.#at + 1] ?? '')
      if (isNamed) while (this.#at < this.#signs.length && !this.#take('>')) this.#at += 1
      else if (!this.#take(':')) throw this.#wrong('look-around is not served')
    }
    const parts: string[] = []
    do {
      parts.push(this.#sequence(depth) || '""')
      if (this.#peek() === '$') throw this.#wrong('"$" is served at the end alone')
    } while (this.#take('|'))
    if (!this.#take(')')) throw this.#wrong('")" was expected')
    return `( ${parts.join(' | ')} )`
  }

  #quantified(atom: string): string {
    const times = this.#times()
    if (times === null) return atom
    // Laziness changes which match is found, not whether there is one.
    this.#take('?')
    const [min, max] = times
    return max === 0 ? '' : repeated(`( ${atom} )`, min, max)
  }

  #times(): readonly [number, number | null] | null {
    if (this.#take('*')) return [0, null]
    if (this.#take('+')) return [1, null]
    if (this.#take('?')) return [0, 1]
    if (this.#peek() !== '{') return null
    const text = this.#signs.slice(this.#at, this.#at + 16).join('')
    const match = /^\{(\d+)(,(\d*))?\}/.exec(text)
    if (match === null) throw this.#wrong('{m}, {m,} or {m,n} was expected')
    this.#at += match[0].length
    const min = Number(match[1])
    const max = match[2] === undefined ? min : match[3] === '' ? null : Number(match[3])
    if (Math.max(min, max ?? 0) > REPETITION_MAX) {
      throw this.#wrong(`more than ${REPETITION_MAX} repetitions`)
    }
    if (max !== null && max < min) throw this.#wrong('the maximum is below the minimum')
    return [min, max]
  }

  #set(): CodePoints {
    const isNegated = this.#take('^')
    const ranges: (readonly [number, number])[] = []
    while (!this.#take(']')) {
      const low = this.#setItem()
      const isRange = this.#peek() === '-' && ![']', undefined].includes(this.#signs[this.#at + 1])
      if (!isRange) {
        ranges.push(...low)
        continue
      }
      this.#at += 1
      const high = this.#setItem()
      const [from, to] = [low[0]?.[0], high[0]?.[1]]
      const isSingle = low.length === 1 && low[0]?.[0] === low[0]?.[1] && high.length === 1
      if (!isSingle || from === undefined || to === undefined || to < from) {
        throw this.#wrong('a range runs from one character to a later one')
      }
      ranges.push([from, to])
    }
    return isNegated ? complement(ranges) : union(ranges)
  }

  #setItem(): CodePoints {
    const sign = this.#signs[this.#at++]
    if (sign === undefined) throw this.#wrong('"]" was expected')
    return sign === '\\' ? this.#escape() : single(sign.codePointAt(0) ?? 0)
  }

  #escape(): CodePoints {
    const sign = this.#signs[this.#at++] ?? ''
    const set = SETS[sign]
    if (set !== undefined) return set
    const control = CONTROLS[sign]
    if (control !== undefined) return single(control)
    if (sign === 'x') return single(this.#hex(2))
    if (sign === 'u') return single(this.#take('{') ? this.#bracedHex() : this.#hex(4))
    if (/[A-Za-z1-9]/.test(sign) || sign === '') {
      throw this.#wrong(`"\\${sign}" is not served`)
    }
    return single(sign.codePointAt(0) ?? 0)
  }

  #hex(length: number): number {
    const digits = this.#signs.slice(this.#at, this.#at + length).join('')
    if (!new RegExp(`^[0-9a-fA-F]{${length}}$`).test(digits)) {
      throw this.#wrong(`${length} hex digits were expected`)
    }
    this.#at += length
    return Number.parseInt(digits, 16)
  }

  #bracedHex(): number {
    const digits = /^([0-9a-fA-F]{1,6})\}/.exec(this.#signs.slice(this.#at, this.#at + 7).join(''))
    const value = Number.parseInt(digits?.[1] ?? '', 16)
    if (digits === null || value > LAST) throw this.#wrong('a character’s number was expected')
    this.#at += digits[0].length
    return value
  }
}

/** As a JSON string writes them: most as they are, some only escaped. */
const ESCAPED: Readonly<Record<number, string>> = {
  8: '\\b',
  9: '\\t',
  10: '\\n',
  12: '\\f',
  13: '\\r',
  34: '\\"',
  92: '\\\\',
}
const NEVER_PLAIN: CodePoints = [
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
  [0xd800, 0xdfff],
]

function characters(set: CodePoints): string {
  const plain = complement([...complement(set), ...NEVER_PLAIN])
  const parts = plain.length === 0 ? [] : [characterClass(plain)]
  const has = (point: number): boolean => set.some(([low, high]) => low <= point && point <= high)
  for (const [point, written] of Object.entries(ESCAPED)) {
    if (has(Number(point))) parts.push(literal(written))
  }
  if (parts.length === 0) {
    for (let point = 0; point < 0x20; point++) {
      if (has(point)) parts.push(literal(`\\u${point.toString(16).padStart(4, '0')}`))
    }
  }
  if (parts.length === 0) throw new PatternError('a class matches no character')
  return parts.length === 1 ? (parts[0] ?? '') : `( ${parts.join(' | ')} )`
}

function single(point: number): CodePoints {
  return [[point, point]]
}

/** Sorted, without overlaps. */
function union(ranges: CodePoints): CodePoints {
  const merged: [number, number][] = []
  for (const [low, high] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = merged.at(-1)
    if (last !== undefined && low <= last[1] + 1) last[1] = Math.max(last[1], high)
    else merged.push([low, high])
  }
  return merged
}

function complement(ranges: CodePoints): CodePoints {
  const gaps: [number, number][] = []
  let next = 0
  for (const [low, high] of union(ranges)) {
    if (low > next) gaps.push([next, low - 1])
    next = high + 1
  }
  if (next <= LAST) gaps.push([next, LAST])
  return gaps
}
