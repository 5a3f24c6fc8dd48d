import { expect, it } from 'vitest'
import { chooseVersion } from './version-choice.ts'

const versionOf = (version: number) => ({
  ...{ versionId: `ver_${version}`, version, digest: `sha256:${version}` },
  ...{ baseModel: 'base', packBytes: 1 },
})
const modelOf = (weight: number | null, canary = 4) => ({
  ...{ tenantId: 'ten_1', tenantName: 'acme', tenantWeight: 1, modelId: 'mod_1', modelName: 'bot' },
  ...versionOf(3),
  canary: weight === null ? null : { ...versionOf(canary), weight, deployedAt: new Date(0) },
})
const REQUESTS = 10_000
const affinities = Array.from({ length: REQUESTS }, (_, i) => `req_01k${i.toString(32)}`)
const canariesOf = (weight: number, canary = 4) =>
  affinities.filter((affinity) => chooseVersion(modelOf(weight, canary), affinity).version !== 3)

/** Pearson's statistic; 10.83 is passed once in a thousand by a fair draw (one degree). */
function chiSquare(seen: number, weight: number): number {
  const expected = (REQUESTS * weight) / 100
  const rest = REQUESTS - expected
  return (seen - expected) ** 2 / expected + (REQUESTS - seen - rest) ** 2 / rest
}

it.each([1, 10, 25, 50, 90, 99])('gives a canary %d % of requests', (weight) => {
  expect(chiSquare(canariesOf(weight).length, weight)).toBeLessThan(10.83)
})

it('gives all or nothing at the ends, and the main version without a canary', () => {
  expect(canariesOf(0)).toHaveLength(0)
  expect(canariesOf(100)).toHaveLength(REQUESTS)
  expect(chooseVersion(modelOf(null), 'x').version).toBe(3)
})

it('keeps what a canary has when its weight grows', () => {
  const more = new Set(canariesOf(20))
  expect(canariesOf(10).filter((affinity) => !more.has(affinity))).toEqual([])
})

it('meets other requests with another canary', () => {
  const others = new Set(canariesOf(10, 5))
  const both = canariesOf(10).filter((affinity) => others.has(affinity))
  expect(both.length).toBeLessThan(REQUESTS / 50)
})
