import { expect, it } from 'vitest'
import { EDGE_ROUTES } from '#protocol'
import { raid } from '../../gpu-host/test/support/forged-tokens.ts'
import { reportRun, SEED, sized } from '../../gpu-host/test/support/soak-run.ts'
import { assertSignedBody, HostVerifier } from './host-signature.ts'

const SECRET = 'a pool secret that is long enough to be one'
/** Enough for hundreds of each kind. */
const COUNT = sized(2000, 10_000)

it(`lets no host in by ${COUNT} altered, forged, misused and replayed signatures (seed ${SEED})`, async () => {
  let nowMs = Date.UTC(2026, 10, 27)
  const pass = (ms: number): void => {
    nowMs += ms
  }
  const verifier = new HostVerifier([new TextEncoder().encode(SECRET)], () => nowMs)
  const target = {
    audience: 'edge' as const,
    route: EDGE_ROUTES.usage,
    otherRoute: EDGE_ROUTES.heartbeat,
    secret: SECRET,
    nowMs: () => nowMs,
  }
  const result = await raid(target, { count: COUNT, seed: SEED, pass }, async (call) => {
    try {
      const claims = await verifier.verify(`Host ${call.token}`, call)
      await assertSignedBody(claims, new TextEncoder().encode(call.body))
      return true
    } catch {
      return false
    }
  })
  expect(result.accepted).toEqual([])
  expect(result.goodTaken).toBe(result.good)
  expect(Math.min(...Object.values(result.kinds))).toBeGreaterThan(COUNT / 50)
  reportRun('forged host signatures at the edge', { seed: SEED, ...result, accepted: 0 })
})
