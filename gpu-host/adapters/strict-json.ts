/**
 * JSON as a trust boundary reads it: bytes must be UTF-8, and no object may hold a key twice, since
 * two readers of such a file may see two different adapters (`JSON.parse` keeps the last in
 * silence). Nor may it be nested deep: whatever walks or prints such a value runs out of stack.
 */
import { isTooDeep } from '../wire/json-depth.ts'

/** Arrays and objects within each other; PEFT's own files have three. */
const DEPTH_MAX = 32

export type StrictJson =
  | { readonly isValid: true; readonly value: unknown }
  | { readonly isValid: false; readonly key: string | null; readonly problem: string }

export function parseStrictJson(bytes: Uint8Array): StrictJson {
  if (isTooDeep(bytes, DEPTH_MAX)) {
    return { isValid: false, key: null, problem: `is nested more than ${DEPTH_MAX} deep` }
  }
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return { isValid: false, key: null, problem: 'is not UTF-8 text' }
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    const reason = error instanceof Error ? error.message : 'syntax error'
    return { isValid: false, key: null, problem: `is not JSON: ${reason}` }
  }
  const found = findFault(text)
  return found === null ? { isValid: true, value } : { isValid: false, ...found }
}

/** `text` is known to be JSON, so the scan needs to find its keys only. */
function findFault(text: string): { readonly key: string; readonly problem: string } | null {
  /** One entry per open object (its keys so far) or array (null). */
  const scopes: (Set<string> | null)[] = []
  let isKeyNext = false
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at]
    if (character === '{' || character === '[') {
      scopes.push(character === '{' ? new Set() : null)
      isKeyNext = character === '{'
    } else if (character === '}' || character === ']') {
      scopes.pop()
      isKeyNext = false
    } else if (character === ',') {
      isKeyNext = scopes.at(-1) instanceof Set
    } else if (character === '"') {
      const end = endOfString(text, at)
      if (isKeyNext) {
        const key: string = JSON.parse(text.slice(at, end + 1))
        // Readers make a prototype of it, or pass over it.
        if (key === '__proto__') return { key, problem: 'is no name that a field may have' }
        const keys = scopes.at(-1)
        if (keys?.has(key)) return { key, problem: 'stands twice in one object' }
        keys?.add(key)
        isKeyNext = false
      }
      at = end
    }
  }
  return null
}

function endOfString(text: string, start: number): number {
  let at = start + 1
  while (text[at] !== '"') at += text[at] === '\\' ? 2 : 1
  return at
}
