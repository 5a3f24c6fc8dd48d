import { expect, it } from 'vitest'
import { isTooDeep, JSON_DEPTH_MAX } from './json-depth.ts'

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const nested = (depth: number): string => `${'['.repeat(depth)}${']'.repeat(depth)}`

it('counts arrays and objects alike, at the bound exactly', () => {
  expect(isTooDeep(bytes(nested(JSON_DEPTH_MAX)))).toBe(false)
  expect(isTooDeep(bytes(nested(JSON_DEPTH_MAX + 1)))).toBe(true)
  expect(isTooDeep(bytes(`${'{"a":'.repeat(3)}1${'}'.repeat(3)}`), 2)).toBe(true)
  expect(isTooDeep(bytes('[{"a":[1]}]'), 3)).toBe(false)
  expect(isTooDeep(bytes('[{"a":[1]}]'), 2)).toBe(true)
})

it('takes what stands side by side for one level', () => {
  expect(isTooDeep(bytes(`[${'[],{},'.repeat(1000)}1]`), 2)).toBe(false)
})

it('sees no depth in texts, whatever they quote', () => {
  const value = { a: '[[[[', b: 'x"[{"[{', c: '\\', d: '\\"[[[[', e: '{"{"{"', 'k[[[[': 1 }
  expect(isTooDeep(bytes(JSON.stringify(value)), 1)).toBe(false)
  expect(isTooDeep(bytes(JSON.stringify([value])), 1)).toBe(true)
})

it('needs no end of what it counts', () => {
  expect(isTooDeep(bytes('['.repeat(1_000_000)))).toBe(true)
  expect(isTooDeep(bytes('"\\'))).toBe(false)
  expect(isTooDeep(bytes(''))).toBe(false)
})
