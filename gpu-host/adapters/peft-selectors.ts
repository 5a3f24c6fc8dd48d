/**
 * Pure: the fields of a PEFT config that choose modules, as PEFT reads them: lists name whole
 * dotted suffixes, a text is a regex over the whole name, patterns match suffixes and the first one
 * wins.
 */
import { adapterInvalid, toPrintableJson } from './adapter-invalid.ts'
import { PEFT_PATHS } from './base-shape.ts'
import { parseModulePattern } from './module-pattern.ts'

/** What PEFT's own shorthand for every linear layer means; for these models, the seven. */
const ALL_LINEAR = 'all-linear'
const SERVED_NAMES: readonly string[] = Object.values(PEFT_PATHS).map(lastPart)
const SUBSET = 'letters, digits, . \\. \\d \\w [0-9] (a|b) ^ $ and * + ?, at most 256 characters'
/** Bounds what matching costs the host's thread: plain names are cheap, everything else is not. */
const PATTERNS_MAX = 1024
const COMPLEX_LENGTH_MAX = 2048
const COMPLEX = /[*+?(|]/

export interface Selector {
  matches(name: string): boolean
}

export interface ModulePatterns {
  /** The value of the first pattern that matches. */
  find(name: string): number | undefined
}

type SelectorField = 'target_modules' | 'exclude_modules'

export function parseSelector(field: SelectorField, value: string | readonly string[]): Selector {
  if (typeof value !== 'string') return createListSelector(field, value)
  if (value.toLowerCase() === ALL_LINEAR) return { matches: () => true }
  const pattern = parseModulePattern(value)
  if (pattern === null) {
    throw adapterInvalid(
      'config',
      field,
      `is a regex beyond what is served (${SUBSET}); list names`,
    )
  }
  return { matches: (name) => pattern.matchesWhole(name) }
}

function createListSelector(field: SelectorField, entries: readonly string[]): Selector {
  if (entries.length === 0) throw adapterInvalid('config', field, 'is empty; list module names')
  const unserved = entries.find((entry) => !SERVED_NAMES.includes(lastPart(entry)))
  if (field === 'target_modules' && unserved !== undefined) {
    const served = SERVED_NAMES.join(', ')
    throw adapterInvalid(
      'config',
      field,
      `names ${toPrintableJson(unserved)}; served are ${served}`,
    )
  }
  return {
    matches: (name) => entries.some((entry) => name === entry || name.endsWith(`.${entry}`)),
  }
}

export function parsePatterns(
  field: 'rank_pattern' | 'alpha_pattern',
  value: Readonly<Record<string, number>>,
): ModulePatterns {
  const entries = Object.entries(value)
  if (entries.length > PATTERNS_MAX) {
    throw adapterInvalid('config', field, `has ${entries.length} keys; at most ${PATTERNS_MAX}`)
  }
  const complexLength = entries
    .filter(([key]) => COMPLEX.test(key))
    .reduce((sum, [key]) => sum + key.length, 0)
  if (complexLength > COMPLEX_LENGTH_MAX) {
    const found = `has regexes of ${complexLength} characters together`
    throw adapterInvalid('config', field, `${found}; at most ${COMPLEX_LENGTH_MAX}, name modules`)
  }
  const patterns = entries.map(([key, number]) => {
    const pattern = parseModulePattern(key)
    if (pattern !== null) return { pattern, number }
    const text = toPrintableJson(key)
    throw adapterInvalid('config', field, `has the key ${text}, beyond what is served: ${SUBSET}`)
  })
  return { find: (name) => patterns.find(({ pattern }) => pattern.matchesSuffix(name))?.number }
}

/** Layers that layers_to_transform names; null = all. */
export function parseLayers(fields: {
  readonly target_modules: string | readonly string[]
  readonly layers_to_transform?: number | readonly number[] | null | undefined
  readonly layers_pattern?: string | readonly string[] | null | undefined
}): ReadonlySet<number> | null {
  const { layers_to_transform, layers_pattern, target_modules } = fields
  const layers = [layers_to_transform ?? []].flat()
  if (layers.length === 0) return null
  if (typeof target_modules === 'string') {
    const fix = 'PEFT takes it only with target_modules as a list of names'
    throw adapterInvalid('config', 'layers_to_transform', `stands beside a regex; ${fix}`)
  }
  const patterns = [layers_pattern ?? []].flat()
  if (patterns.every((pattern) => pattern === 'layers' || pattern === '')) return new Set(layers)
  throw adapterInvalid('config', 'layers_pattern', 'must be null or "layers", as this base has it')
}

function lastPart(name: string): string {
  return name.slice(name.lastIndexOf('.') + 1)
}
