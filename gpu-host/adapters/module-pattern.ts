/**
 * Patterns of PEFT configs that name modules (`target_modules`, `rank_pattern`, …). PEFT takes any
 * Python regex; tenants write them and the host's one thread runs them, so a backtracking engine
 * would let one adapter stop every stream. Here a subset is matched by moving SETS of positions
 * through the pattern: the work is at most pattern length × name length, whatever the pattern.
 *
 * Subset: letters, digits, `_ - .`, `\.`, `\d`, `\w`, `[0-9]`, `(a|b)`, `(?:…)`, `^`, `$`, and
 * `* + ?` (lazy ones too: they accept the same names) after anything but an anchor.
 */
const PATTERN_LENGTH_MAX = 256
const CLASS = /\[(\^?)([A-Za-z0-9_-]+)\]/y

type Positions = ReadonlySet<number>
/** Where a match can end, for each place where it may start. */
type Node = (name: string, starts: Positions) => Positions

export interface ModulePattern {
  /** As Python's `re.fullmatch`. */
  matchesWhole(name: string): boolean
  /** As PEFT matches keys of rank_pattern and alpha_pattern: a whole dotted suffix of the name. */
  matchesSuffix(name: string): boolean
}

/** null when the pattern is not of the subset. */
export function parseModulePattern(pattern: string): ModulePattern | null {
  if (pattern.length === 0 || pattern.length > PATTERN_LENGTH_MAX) return null
  const parser = new PatternParser(pattern)
  const node = parser.parse()
  if (node === null) return null
  return {
    matchesWhole: (name) => node(name, new Set([0])).has(name.length),
    matchesSuffix: (name) => node(name, suffixStarts(name)).has(name.length),
  }
}

/** PEFT puts `(.*\.)?` before the pattern: it may begin at the start and after every dot. */
function suffixStarts(name: string): Positions {
  const starts = new Set([0])
  for (let at = 0; at < name.length; at += 1) if (name[at] === '.') starts.add(at + 1)
  return starts
}

class PatternParser {
  readonly #pattern: string
  #at = 0
  #isValid = true

  constructor(pattern: string) {
    this.#pattern = pattern
  }

  parse(): Node | null {
    const node = this.#alternatives()
    return this.#isValid && this.#at === this.#pattern.length ? node : null
  }

  #alternatives(): Node {
    const nodes = [this.#sequence()]
    while (this.#take('|')) nodes.push(this.#sequence())
    return (name, starts) => {
      const ends = new Set<number>()
      for (const node of nodes) for (const end of node(name, starts)) ends.add(end)
      return ends
    }
  }

  #sequence(): Node {
    const nodes: Node[] = []
    while (this.#isValid && this.#at < this.#pattern.length && !'|)'.includes(this.#peek())) {
      nodes.push(this.#repeated())
    }
    return (name, starts) => {
      let positions = starts
      for (const node of nodes) {
        if (positions.size === 0) break
        positions = node(name, positions)
      }
      return positions
    }
  }

  #repeated(): Node {
    const isAnchor = '^$'.includes(this.#peek())
    const node = this.#atom()
    const quantifier = this.#peek()
    if (quantifier === '' || !'*+?'.includes(quantifier)) return node
    if (isAnchor) this.#isValid = false
    this.#at += 1
    this.#take('?')
    if (quantifier === '?') return (name, starts) => new Set([...starts, ...node(name, starts)])
    return (name, starts) => {
      const ends = new Set(quantifier === '*' ? starts : [])
      let fresh: Positions = starts
      while (fresh.size > 0) {
        const next = new Set<number>()
        for (const end of node(name, fresh)) if (!ends.has(end)) next.add(end)
        for (const end of next) ends.add(end)
        fresh = next
      }
      return ends
    }
  }

  #atom(): Node {
    const character = this.#peek()
    this.#at += 1
    if (character === '^') return (_, starts) => new Set([...starts].filter((at) => at === 0))
    if (character === '$') {
      return (name, starts) => new Set([...starts].filter((at) => at === name.length))
    }
    if (character === '(') return this.#group()
    if (character === '[') return this.#class()
    if (character === '\\') return this.#escape()
    if (character === '.') return one(() => true)
    if (!/^[A-Za-z0-9_-]$/.test(character)) this.#isValid = false
    return one((found) => found === character)
  }

  #group(): Node {
    if (this.#take('?') && !this.#take(':')) this.#isValid = false
    const node = this.#alternatives()
    if (!this.#take(')')) this.#isValid = false
    return node
  }

  #class(): Node {
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

  #escape(): Node {
    const character = this.#peek()
    this.#at += 1
    if (character === '.') return one((found) => found === '.')
    if (character === 'd') return one((found) => /\d/.test(found))
    if (character === 'w') return one((found) => /\w/.test(found))
    return this.#fail()
  }

  #fail(): Node {
    this.#isValid = false
    return (_, starts) => starts
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

/** A node that takes one character. */
function one(accepts: (character: string) => boolean): Node {
  return (name, starts) => {
    const ends = new Set<number>()
    for (const at of starts) if (at < name.length && accepts(name.charAt(at))) ends.add(at + 1)
    return ends
  }
}
