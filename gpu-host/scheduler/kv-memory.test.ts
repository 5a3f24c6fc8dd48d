import { afterEach, describe, expect, it } from 'vitest'
import type { GenerateEvent, GenerateRequest } from '../protocol.ts'
import { expectedTokens } from '../test/support/fake-engine.ts'
import { collect, type RigOptions, SchedulerRig } from '../test/support/scheduler-rig.ts'
import type { AdapterScript } from '../test/support/scripted-adapters.ts'
import { createRequest } from '../test/support/test-host.ts'

const PAGE = 16
const rigs: SchedulerRig[] = []
function build(options: RigOptions = {}): SchedulerRig {
  const rig = new SchedulerRig(options)
  rigs.push(rig)
  return rig
}
afterEach(async () => {
  for (const rig of rigs.splice(0)) await rig.dispose()
})

const digest = (digits: string): string => `sha256:${digits.repeat(64)}`
const script = (digits: string): AdapterScript => ({
  payload: new TextEncoder().encode(digits),
  ...{ fetchMs: 0, loadMs: 0, fails: 'never' },
})
const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index % 250)

function submit(
  rig: SchedulerRig,
  tokens: number[],
  changes: Partial<GenerateRequest> = {},
): GenerateEvent[] {
  return collect(
    rig.scheduler.submit(createRequest({ input: { kind: 'tokens', tokens }, ...changes })),
  )
}

async function run(
  rig: SchedulerRig,
  tokens: number[],
  changes: Partial<GenerateRequest> = {},
): Promise<{ cached: number; text: string }> {
  const events = submit(rig, tokens, changes)
  await rig.clock.advance(2000)
  const last = events.at(-1)
  if (last?.type !== 'end') throw new Error(`it ended with ${JSON.stringify(last)}`)
  expect(last.usage.prompt_tokens).toBe(tokens.length)
  return { cached: last.usage.cached_prompt_tokens, text: textOf(events) }
}

const textOf = (events: readonly GenerateEvent[]): string =>
  events.map((event) => (event.type === 'chunk' ? event.text : '')).join('')
const expectedText = (tokens: number[], tokensMax: number, payload: Uint8Array | null = null) =>
  String.fromCharCode(...expectedTokens(payload, tokens, { tokensMax }))

async function countOf(rig: SchedulerRig, name: string, labels = {}): Promise<number> {
  const metric = await rig.metrics.registry.getSingleMetric(name)?.get()
  const wanted = JSON.stringify(labels)
  return metric?.values.find((value) => JSON.stringify(value.labels) === wanted)?.value ?? 0
}

describe('a prefix that the tenant has sent before', () => {
  it('is found page by page, says so, and changes no token of the answer', async () => {
    const rig = build()
    const prompt = range(5 * PAGE + 3)
    const first = await run(rig, prompt, { max_tokens: 20 })
    const second = await run(rig, prompt, { max_tokens: 20 })
    expect(first).toEqual({ cached: 0, text: expectedText(prompt, 20) })
    expect(second).toEqual({ cached: 5 * PAGE, text: first.text })
    const other = [...prompt.slice(0, 2 * PAGE + 9), 7, 7]
    expect(await run(rig, other)).toEqual({ cached: 2 * PAGE, text: expectedText(other, 8) })
    expect(rig.usage().map((event) => event.cached_prompt_tokens)).toEqual([0, 5 * PAGE, 2 * PAGE])
    // Rows that were spared are no rows that ran.
    const ran = await countOf(rig, 'nozzle_tokens_total', { kind: 'prompt' })
    expect(ran).toBe(2 * prompt.length + other.length - 7 * PAGE)
    expect(await countOf(rig, 'nozzle_prefix_hit_tokens_total')).toBe(7 * PAGE)
  })

  it('leaves the last prompt token to be computed', async () => {
    const rig = build()
    await run(rig, range(2 * PAGE))
    expect(await run(rig, range(2 * PAGE))).toMatchObject({ cached: PAGE })
  })

  it('reaches into the answer, as the next turn of a conversation repeats it', async () => {
    const rig = build()
    const prompt = range(PAGE + 3)
    const { text } = await run(rig, prompt, { max_tokens: 2 * PAGE })
    const next = [...prompt, ...Buffer.from(text), 1, 2, 3]
    const answer = await run(rig, next)
    // The last token drawn has no cell yet.
    expect(answer).toEqual({ cached: 3 * PAGE, text: expectedText(next, 8) })
  })

  it.each<[string, Partial<GenerateRequest>]>([
    ['another tenant', { tenant_id: 'ten_other' }],
    ['another tenant of the base alone', { tenant_id: 'ten_other', adapter_digest: null }],
    ['another adapter', { adapter_digest: digest('2') }],
    ['a redeploy under the same name', { adapter_digest: digest('2'), model: 'm' }],
    ['the base alone', { adapter_digest: null }],
  ])('is never found by %s', async (_, changes) => {
    const adapters = new Map([
      [digest('1'), script('1')],
      [digest('2'), script('2')],
    ])
    const rig = build({ adapters })
    const prompt = range(6 * PAGE)
    await run(rig, prompt, { adapter_digest: digest('1'), model: 'm' })
    await run(rig, prompt, { adapter_digest: null, tenant_id: 'ten_third' })
    expect(await run(rig, prompt, changes)).toMatchObject({ cached: 0 })
    const again = { adapter_digest: digest('1'), model: 'renamed' }
    expect(await run(rig, prompt, again)).toMatchObject({ cached: 5 * PAGE })
  })

  it('outlives the slot: an adapter that was evicted meanwhile still finds it', async () => {
    const adapters = new Map(['1', '2'].map((digits) => [digest(digits), script(digits)]))
    const rig = build({ adapters, engine: { limits: { slotCount: 1 } } })
    const prompt = range(3 * PAGE)
    const { text } = await run(rig, prompt, { adapter_digest: digest('1') })
    await run(rig, prompt, { adapter_digest: digest('2') })
    const again = await run(rig, prompt, { adapter_digest: digest('1') })
    expect(again).toEqual({ cached: 2 * PAGE, text })
  })

  it('is read once for all choices of a request, and billed as read', async () => {
    const rig = build()
    const prompt = range(4 * PAGE + 1)
    expect(await run(rig, prompt, { n: 4 })).toMatchObject({ cached: 0 })
    const ran = await countOf(rig, 'nozzle_tokens_total', { kind: 'prompt' })
    expect(ran).toBe(prompt.length + 3)
  })

  it('costs a client nothing that left before a row made use of it', async () => {
    const rig = build()
    const prompt = range(6 * PAGE)
    await run(rig, prompt)
    const generation = rig.scheduler.submit(
      createRequest({ input: { kind: 'tokens', tokens: prompt } }),
    )
    generation.cancel()
    await rig.clock.advance(100)
    expect(rig.usage()).toHaveLength(1)
  })

  it('is not kept of a sequence whose logits were not finite', async () => {
    let isBroken = true
    const rig = build({ engine: { isNonFinite: () => isBroken } })
    const events = submit(rig, range(2 * PAGE))
    await rig.clock.advance(200)
    expect(events.at(-1)).toMatchObject({ type: 'error', code: 'engine_failed' })
    isBroken = false
    // The prompt's first step gave no logits yet; its second one, which failed, leaves nothing.
    expect(await run(rig, range(2 * PAGE + 1))).toMatchObject({ cached: PAGE })
  })
})

describe('pages', () => {
  it('go to running sequences before cached prefixes keep them', async () => {
    const rig = build({ engine: { limits: { contextLength: 8 * PAGE, pageCount: 8 } } })
    await run(rig, range(4 * PAGE))
    expect(rig.scheduler.kvPages).toEqual({ used: 0, cached: 4, free: 4 })
    const other = range(7 * PAGE).map((token) => token + 1)
    expect(await run(rig, other)).toMatchObject({ cached: 0 })
    expect(await countOf(rig, 'nozzle_prefix_evictions_total')).toBeGreaterThan(0)
    expect(await countOf(rig, 'nozzle_kv_preemptions_total')).toBe(0)
    const { used, cached, free } = rig.scheduler.kvPages
    expect({ used, total: used + cached + free }).toEqual({ used: 0, total: 8 })
  })

  it('are taken from the youngest when they run out, and every answer is whole', async () => {
    const rig = build({ engine: { limits: { contextLength: 8 * PAGE, pageCount: 9 } } })
    const prompts = [1, 2, 3].map((first) => [first, ...range(PAGE)])
    const all = prompts.map((prompt) => submit(rig, prompt, { max_tokens: 5 * PAGE }))
    await rig.clock.advance(3000)
    for (const [index, events] of all.entries()) {
      expect(events.at(-1)).toMatchObject({ type: 'end', finish_reason: 'length' })
      expect(textOf(events)).toBe(expectedText(prompts[index] ?? [], 5 * PAGE))
    }
    expect(await countOf(rig, 'nozzle_kv_preemptions_total')).toBeGreaterThan(0)
    const again = await countOf(rig, 'nozzle_tokens_total', { kind: 'recomputed' })
    expect(again).toBeGreaterThan(0)
    const usage = rig.usage()
    expect(usage.map((event) => event.prompt_tokens)).toEqual(prompts.map(({ length }) => length))
    // The oldest was never interrupted.
    expect(usage[0]?.request_id).toBe(all[0]?.flatMap(requestIdOf)[0])
  })

  it('make a request wait that would not fit, without a slot, in its turn', async () => {
    const rig = build({ engine: { limits: { contextLength: 8 * PAGE, pageCount: 8 } } })
    const first = submit(rig, range(5 * PAGE), { max_tokens: 40 })
    await rig.clock.advance(20)
    const large = submit(rig, [9, ...range(6 * PAGE)], { max_tokens: 4 })
    const small = submit(rig, [8], { max_tokens: 1 })
    await rig.clock.advance(5)
    const late = submit(rig, [7], { max_tokens: 1 })
    await rig.clock.advance(20)
    expect(rig.scheduler.load()).toMatchObject({ sequencesRunning: 3, queueDepth: 1 })
    await rig.clock.advance(1000)
    for (const events of [first, large, small, late]) {
      expect(events.at(-1)).toMatchObject({ type: 'end', finish_reason: 'length' })
    }
    expect(await countOf(rig, 'nozzle_kv_preemptions_total')).toBe(0)
    expect(rig.usage()[0]?.completion_tokens).toBe(40)
  })

  it('of a client that does not read serve others meanwhile', async () => {
    const rig = build({
      engine: { limits: { contextLength: 8 * PAGE, pageCount: 8 } },
      limits: { consumerStallMaxMs: 5000, eventsBufferedMax: 4 },
    })
    const stalled = rig.scheduler.submit(
      createRequest({ input: { kind: 'tokens', tokens: range(5 * PAGE) }, max_tokens: 20 }),
    )
    await rig.clock.advance(200)
    const other = submit(rig, [9, ...range(6 * PAGE)], { max_tokens: 4 })
    await rig.clock.advance(500)
    expect(other.at(-1)).toMatchObject({ type: 'end', finish_reason: 'length' })
    const events = collect(stalled)
    await rig.clock.advance(500)
    expect(events.at(-1)).toMatchObject({ type: 'end', finish_reason: 'length' })
    expect(textOf(events)).toBe(expectedText(range(5 * PAGE), 20))
  })
})

function requestIdOf(event: GenerateEvent): string[] {
  return event.type === 'accepted' ? [event.request_id] : []
}
