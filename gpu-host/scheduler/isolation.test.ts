/** What the step loop does when the books above the slots are wrong: no row runs with the error. */
import { afterEach, describe, expect, it } from 'vitest'
import { expectedTokens } from '../test/support/fake-engine.ts'
import { collect, type RigOptions, SchedulerRig } from '../test/support/scheduler-rig.ts'
import type { AdapterScript } from '../test/support/scripted-adapters.ts'
import { createRequest, textOf } from '../test/support/test-host.ts'

const digest = (digits: string): string => `sha256:${digits.repeat(64)}`
const script = (digits: string): AdapterScript => ({
  payload: new TextEncoder().encode(digits),
  ...{ fetchMs: 0, loadMs: 1, fails: 'never' },
})
const adapters = new Map(['1', '2'].map((digits) => [digest(digits), script(digits)]))
const rigs: SchedulerRig[] = []
function build(options: RigOptions = {}): SchedulerRig {
  const rig = new SchedulerRig({ adapters, ...options })
  rigs.push(rig)
  return rig
}
afterEach(async () => {
  for (const rig of rigs.splice(0)) await rig.dispose()
})

const input = { kind: 'tokens' as const, tokens: [1, 2, 3] }
const expected = (payload: string | null, count: number): string => {
  const bytes = payload === null ? null : new TextEncoder().encode(payload)
  return String.fromCharCode(...expectedTokens(bytes, input.tokens, { tokensMax: count }))
}
const breaches = async (rig: SchedulerRig) =>
  (await rig.metrics.registry.getSingleMetric('nozzle_isolation_breaches_total')?.get())?.values[0]
    ?.value

describe('a sequence whose slot is not its own any more', () => {
  it('ends before the next step, with an error; its neighbours go on', async () => {
    const rig = build()
    const [lost, kept] = ['1', '2'].map((digits) =>
      collect(
        rig.scheduler.submit(
          createRequest({ adapter_digest: digest(digits), input, max_tokens: 60 }),
        ),
      ),
    )
    await rig.clock.advance(30)
    rig.adapters.forgetPinned(digest('1'))
    await rig.clock.advance(500)
    const said = textOf(lost ?? [])
    expect(said.length).toBeGreaterThan(3)
    expect(said.length).toBeLessThan(60)
    expect(expected('1', 60).startsWith(said)).toBe(true)
    expect(lost?.at(-1)).toMatchObject({ type: 'error', code: 'engine_failed' })
    expect(textOf(kept ?? [])).toBe(expected('2', 60))
    expect(await breaches(rig)).toBe(1)
    // What it had read is no one's: the next one reads all of it anew.
    expect(rig.scheduler.load()).toMatchObject({ sequencesRunning: 0, slotsInUse: 0 })
  })

  it('never occurs by itself', async () => {
    const rig = build({ engine: { limits: { slotCount: 1 } } })
    for (const digits of ['1', '2', '1', '2']) {
      const request = createRequest({ adapter_digest: digest(digits), input, max_tokens: 5 })
      const events = collect(rig.scheduler.submit(request))
      await rig.clock.advance(200)
      expect(textOf(events)).toBe(expected(digits, 5))
    }
    expect(await breaches(rig)).toBe(0)
  })
})

describe('an adapter that is not there', () => {
  it.each<[string, AdapterScript | null, string]>([
    ['in the store', null, 'adapter_not_found'],
    ['whole', { ...script('3'), fails: 'load' }, 'adapter_load_failed'],
  ])('%s is an error and never the base', async (_, broken, code) => {
    const rig = build({ adapters: new Map(broken === null ? [] : [[digest('3'), broken]]) })
    const request = createRequest({ adapter_digest: digest('3'), input, max_tokens: 5 })
    const events = collect(rig.scheduler.submit(request))
    await rig.clock.advance(300)
    expect(textOf(events)).toBe('')
    expect(events.at(-1)).toMatchObject({ type: 'error', code })
    expect(rig.engine.steps).toBe(0)
  })
})

describe('a request that is cancelled', () => {
  it('gives back slot, pages and sequence, whatever it was doing', async () => {
    const rig = build()
    for (const afterMs of [0, 1, 2, 5, 20]) {
      const request = createRequest({ adapter_digest: digest('1'), input, max_tokens: 60 })
      const generation = rig.scheduler.submit(request)
      collect(generation)
      await rig.clock.advance(afterMs)
      generation.cancel()
      await rig.clock.advance(100)
      expect(rig.adapters.pins).toBe(0)
      expect(rig.scheduler.kvPages.used).toBe(0)
      expect(rig.engine.openSequences.size).toBe(0)
    }
  })
})
