/**
 * Patterns of PEFT configs that name modules (`target_modules`, `rank_pattern`, …). PEFT takes any
 * Python regex; tenants write them and the host's one thread runs them, so a backtracking engine
 * would let one adapter stop every stream. Here a subset becomes an automaton whose states are
 * moved together, one character of the name after the other: the work is at most pattern length ×
 * name length, however deep repetitions stand within each other.
 *
 * Subset: letters, digits, `_ - .`, `\.`, `\d`, `\w`, `[0-9]`, `(a|b)`, `(?:…)`, `^`, `$`, and
 * `* + ?` (lazy ones too: they accept the same names) after anything but an anchor.
 */
const PATTERN_LENGTH_MAX = 256
const CLASS = /\[(\^?)([A-Za-z0-9_-]+)\]/y

type Accepts = (character: string) => boolean
/** What a state waits for: a character of a kind, or a place in the name. */
type Test = Accepts | 'start' | 'end'

/** Goes on to every state of `next`: at once where it waits for nothing. */
interface State {
  readonly test: Test | null
  readonly next: State[]
}

/** From `first` to `last`, which a longer pattern goes on from. */
interface Part {
  readonly first: State
  readonly last: State
}

export interface ModulePattern {
  /** As Python's `re.fullmatch`. */
  matchesWhole(name: string): boolean
  /** As PEFT matches keys of rank_pattern and alpha_pattern: a whole dotted suffix of the name. */
  matchesSuffix(name: string): boolean
}

/** null when the pattern is not of the subset. */
export function parseModulePattern(pattern: string): ModulePattern | null {
  if (pattern.length === 0 || pattern.length > PATTERN_LENGTH_MAX) return null
  const part = new PatternParser(pattern).parse()
  if (part === null) return null
  return {
    matchesWhole: (name) => matches(part, name, (at) => at === 0),
    // PEFT puts `(.*\.)?` before the pattern: it may begin at the start and after every dot.
    matchesSuffix: (name) => matches(part, name, (at) => at === 0 || name[at - 1] === '.'),
  }
}

/** Whether the pattern ends with the name, begun wherever `mayBegin`. */
function matches(part: Part, name: string, mayBegin: (at: number) => boolean): boolean {
  let waiting: State[] = []
  for (let at = 0; ; at += 1) {
    const reached = reach(mayBegin(at) ? [...waiting, part.first] : waiting, at, name.length)
    if (at === name.length) return reached.has(part.last)
    const character = name.charAt(at)
    waiting = []
    for (const { test, next } of reached) {
      if (typeof test === 'function' && test(character)) waiting.push(...next)
    }
  }
}

/** All states that are reached without another character, each once. */
function reach(from: readonly State[], at: number, length: number): ReadonlySet<State> {
  const reached = new Set(from)
  // A set's iteration goes on over what is added on the way.
  for (const { test, next } of reached) {
    const isOpen =
      test === null || (test === 'start' && at === 0) || (test === 'end' && at === length)
    if (isOpen) for (const state of next) reached.add(state)
  }
  return reached
}

class PatternParser {
  readonly #pattern: string
  #at = 0
  #isValid = true

  constructor(pattern: string) {
    this.#pattern = pattern
  }

  parse(): Part | null {
    const part = this.#alternatives()
    return this.#isValid && this.#at === this.#pattern.length ? part : null
  }

  #alternatives(): Part {
    const parts = [this.#sequence()]
    while (this.#take('|')) parts.push(this.#sequence())
    const last = createState()
    for (const part of parts) part.last.next.push(last)
    return { first: createState(null, ...parts.map(({ first }) => first)), last }
  }

  #sequence(): Part {
    const first = createState()
    let last = first
    while (this.#isValid && this.#at < this.#pattern.length && !'|)'.includes(this.#peek())) {
      const part = this.#repeated()
      last.next.push(part.first)
      last = part.last
    }
    return { first, last }
  }

  #repeated(): Part {
    const isAnchor = '^$'.includes(this.#peek())
    const part = this.#atom()
    const quantifier = this.#peek()
    if (quantifier === '' || !'*+?'.includes(quantifier)) return part
    if (isAnchor) this.#isValid = false
    this.#at += 1
    this.#take('?')
    const last = createState()
    part.last.next.push(last)
    if (quantifier !== '?') part.last.next.push(part.first)
    return { first: createState(null, part.first, ...(quantifier === '+' ? [] : [last])), last }
  }

  #atom(): Part {
    const character = this.#peek()
    this.#at += 1
    if (character === '^') return one('start')
    if (character === '$') return one('end')
    if (character === '(') return this.#group()
    if (character === '[') return this.#class()
    if (character === '\\') return this.#escape()
    if (character === '.') return one(() => true)
    if (!/^[A-Za-z0-9_-]$/.test(character)) this.#isValid = false
    return one((found) => found === character)
  }

  #group(): Part {
    if (this.#take('?') && !this.#take(':')) this.#isValid = false
    const part = this.#alternatives()
    if (!this.#take(')')) this.#isValid = false
    return part
  }

  #class(): Part {
    CLASS.lastIndex = this.#at - 1
    const text = CLASS.exec(this.#pattern)?.[0]
    if (text === undefined) return this.#fail()
    this.#at += text.length - 1
    try {
      const members = new RegExp(text)
      return one((found) => members.test(found))
    } catch {
      return this.#fail()
    }
  }

  #escape(): Part {
    const character = this.#peek()
    this.#at += 1
    if (character === '.') return one((found) => found === '.')
    if (character === 'd') return one((found) => /\d/.test(found))
    if (character === 'w') return one((found) => /\w/.test(found))
    return this.#fail()
  }

  #fail(): Part {
    this.#isValid = false
    return one(() => false)
  }

  #peek(): string {
    return this.#pattern.charAt(this.#at)
  }

  #take(character: string): boolean {
    if (this.#peek() !== character) return false
    this.#at += 1
    return true
  }
}

function createState(test: Test | null = null, ...next: State[]): State {
  return { test, next }
}

/** A part that takes one character, or stands at one place. */
function one(test: Test): Part {
  const last = createState()
  return { first: createState(test, last), last }
}
