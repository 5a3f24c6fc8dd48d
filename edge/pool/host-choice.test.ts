import { once } from 'node:events'
import { createServer } from 'node:net'
import { beforeEach, describe, expect, it } from 'vitest'
import { HOLD_MS } from '../limits.ts'
import { EdgeMetrics } from '../metrics.ts'
import { createDigest, createPool, idsOf } from '../test/support/host-states.ts'
import { type ChoiceWish, HostChoice, toEnding } from './host-choice.ts'
import { brokenOff, toHostFailure, unreachable } from './host-failure.ts'

const digest = createDigest(1)
const wish = { baseModel: 'base', digest, tenantId: 'ten_1' }
const metrics = new EdgeMetrics()
let nowMs = 0
let logged: [string, object | undefined][] = []
let inFlight: string[] = []
let choice: HostChoice
beforeEach(() => {
  nowMs = 1e6
  logged = []
  inFlight = []
  choice = new HostChoice({
    pool: {
      ready: async () => createPool(8),
      enter: (hostId) => {
        inFlight.push(hostId)
        return () => void inFlight.splice(inFlight.indexOf(hostId), 1)
      },
      sequencesOf: () => 0,
      isDraining: () => false,
    },
    nowMs: () => nowMs,
    metrics,
    log: (_level, message, fields) => logged.push([message, fields]),
  })
})

async function loseHosts(of: ChoiceWish, count: number): Promise<string[]> {
  const asked = new Set<string>()
  for (let i = 0; i < count; i++) {
    const [host] = await choice.order(of, { asked })
    if (host === undefined) throw new Error('no host')
    asked.add(host.hostId)
    choice.enter(host, of).leave('lost')
  }
  return [...asked]
}

describe('HostChoice', () => {
  it('leaves out whom the request has been to', async () => {
    const [first, ...others] = await choice.order(wish)
    if (first === undefined) throw new Error('no host')
    expect(idsOf(await choice.order(wish, { asked: new Set([first.hostId]) }))).toEqual(
      idsOf(others),
    )
  })

  it('counts a request as load of its host until it leaves, once', async () => {
    const [host] = await choice.order(wish)
    if (host === undefined) throw new Error('no host')
    const visit = choice.enter(host, wish)
    expect(inFlight).toEqual([host.hostId])
    choice.enter(host, wish)
    visit.leave('answered')
    visit.leave('other')
    expect(inFlight).toEqual([host.hostId])
  })

  it('hints once, to the host that the request will go to', async () => {
    const hinted = await choice.hint(wish)
    expect(hinted).not.toBeNull()
    expect(await choice.hint(wish)).toBeNull()
    expect((await choice.order(wish))[0]?.hostId).toBe(hinted?.hostId)
  })

  it('refuses a tenant that is held, and says so in log and metrics', async () => {
    const lost = await loseHosts(wish, 2)
    nowMs += 1000
    await expect(choice.order(wish)).rejects.toMatchObject({
      code: 'no_host_available',
      retryAfterMs: HOLD_MS - 1000,
    })
    const fields = { tenant_id: 'ten_1', lost_hosts: lost.join(' '), for_ms: HOLD_MS }
    expect(logged).toEqual([[expect.stringContaining('held'), fields]])
    expect(metrics.tenantHolds.lines()).toEqual(['nozzle_edge_tenant_holds_total 1'])
    expect(await choice.order({ ...wish, tenantId: 'ten_2' })).toHaveLength(8)
  })
})

describe('toEnding', () => {
  it('takes a connection that was refused for no loss of the host under the request', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    server.close()
    await once(server, 'close')
    const refused = await fetch(`http://127.0.0.1:${port}`).catch((error: unknown) => error)
    expect(toEnding(unreachable(refused))).toBe('other')
  })

  it('takes what breaks off, and an engine that fails, for a loss', () => {
    expect(toEnding(unreachable(new Error('silence')))).toBe('lost')
    expect(toEnding(brokenOff(new Error('reset')))).toBe('lost')
    expect(toEnding(toHostFailure({ code: 'engine_failed', message: 'no' }))).toBe('lost')
  })

  it('takes a refusal for none', () => {
    for (const code of ['queue_full', 'host_draining', 'adapter_not_found', 'invalid_request']) {
      expect(toEnding(toHostFailure({ code, message: 'no' }))).toBe('other')
    }
  })

  it('takes an adapter that overflows for no fault of the host, and nothing to try elsewhere', () => {
    const failure = toHostFailure({ code: 'logits_not_finite', message: 'no', param: 'model' })
    expect(toEnding(failure)).toBe('other')
    expect(failure).toMatchObject({ isRetryable: false, isHostSuspect: false })
    expect(failure.error).toMatchObject({ code: 'adapter_invalid', status: 422, param: 'model' })
  })
})
