/** No grant is let in but one that an edge of the pool made for this very call, and that once. */
import { expect, it } from 'vitest'
import { assertBodyCovered, GrantVerifier } from '../grants.ts'
import { HOST_ROUTES } from '../protocol.ts'
import { raid } from './support/forged-tokens.ts'
import { reportRun, SEED } from './support/soak-run.ts'
import { POOL_SECRET } from './support/test-host.ts'

/** The promise is of so many, in CI as in the soak. */
const COUNT = 10_000

it(`refuses ${COUNT} altered, forged, misused and replayed grants (seed ${SEED})`, async () => {
  let nowMs = Date.UTC(2026, 10, 27)
  const clock = { nowMs: () => nowMs, nowUs: () => nowMs * 1000, setTimer: () => () => {} }
  const pass = (ms: number): void => {
    nowMs += ms
  }
  const grants = new GrantVerifier([new TextEncoder().encode(POOL_SECRET)], clock)
  const target = {
    audience: 'host' as const,
    route: HOST_ROUTES.generate,
    otherRoute: HOST_ROUTES.drain,
    secret: POOL_SECRET,
    nowMs: clock.nowMs,
  }
  pass(60_000)
  const result = await raid(target, { count: COUNT, seed: SEED, pass }, async (call) => {
    try {
      assertBodyCovered(await grants.verify(`Grant ${call.token}`, call), Buffer.from(call.body))
      return true
    } catch {
      return false
    }
  })
  expect(result.accepted).toEqual([])
  expect(result.goodTaken).toBe(result.good)
  expect(Math.min(...Object.values(result.kinds))).toBeGreaterThan(COUNT / 50)
  reportRun('forged grants at the host', { seed: SEED, ...result, accepted: 0 })
})
