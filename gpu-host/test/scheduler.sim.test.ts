/**
 * Seeded simulation of the scheduler on virtual time: tenants, arrivals, cancels, slow and failing
 * loads, rejected steps, consumers that stop reading. After each step the invariants are checked;
 * at the end the journal, the events and the reference output must agree. A failure names its seed.
 */
import { describe, expect, it } from 'vitest'
import { sleep } from '../clock.ts'
import type { StepBatch } from '../engine.ts'
import { HostError } from '../errors.ts'
import { type GenerateEvent, type GenerateRequest, samplingOptions } from '../protocol.ts'
import type { Generation } from '../scheduler/request-runner.ts'
import { choiceSeed } from '../scheduler/sequence.ts'
import { expectedTokens, FAKE_EOS } from './support/fake-engine.ts'
import { createRandom } from './support/random.ts'
import { RIG_LIMITS, RIG_SEED, SchedulerRig } from './support/scheduler-rig.ts'
import type { AdapterScript } from './support/scripted-adapters.ts'

const EOS_ONE_IN = 40
const TENANTS = 5
const ADAPTERS = 9

function digestOf(adapter: number): string {
  return `sha256:${String(adapter).padStart(64, '0')}`
}

interface Client {
  readonly request: GenerateRequest
  readonly generation: Generation
  readonly events: GenerateEvent[]
  isCancelled: boolean
}

class Simulation {
  readonly random: () => number
  readonly scripts = new Map<string, AdapterScript>()
  readonly clients: Client[] = []
  /** Of prompts. */
  readonly #beginnings: readonly number[][]
  readonly rig: SchedulerRig
  refusals = 0
  /** Of steps that the engine ran. */
  stepUs = 0

  constructor(seed: number) {
    this.random = createRandom(seed)
    this.#beginnings = Array.from({ length: 4 }, (_, index) =>
      Array.from({ length: 100 }, (_, at) => (at < 40 ? 65 : 66 + index)),
    )
    for (let adapter = 0; adapter < ADAPTERS; adapter++) {
      const fails = adapter === 7 ? 'fetch' : adapter === 8 ? 'load' : 'never'
      this.scripts.set(digestOf(adapter), {
        payload: Uint8Array.of(adapter),
        fetchMs: adapter === 6 ? 2000 : 5 + this.random() * 50,
        loadMs: 1 + this.random() * 5,
        fails,
      })
    }
    this.rig = new SchedulerRig({
      // Longer lines than a host has, so that pages run short.
      limits: { waitTargetMs: RIG_LIMITS.queueWaitMaxMs },
      adapters: this.scripts,
      engine: {
        // A few of the pages that eight contexts would take: some sequences lose theirs.
        limits: { slotCount: 3, sequenceCount: 8, rowsMax: 32, pageCount: 29 },
        eosOneIn: EOS_ONE_IN,
        stepUs: (rows) => {
          const us = 1000 + rows * 37
          this.stepUs += us
          return us
        },
        onStep: (batch) => this.#beforeStep(batch),
        isNonFinite: (tokens) => tokens.length > 20 && tokens[0] === 120 && tokens[1] === 120,
      },
    })
  }

  #beforeStep(batch: StepBatch): void {
    const load = this.rig.scheduler.load()
    expect(load.slotsInUse).toBeLessThanOrEqual(this.rig.engine.limits.slotCount)
    expect(load.sequencesRunning).toBeLessThanOrEqual(this.rig.engine.limits.sequenceCount)
    expect(load.queueDepth).toBeLessThanOrEqual(RIG_LIMITS.queueDepthMax)
    expect(batch.tokens.length).toBeLessThanOrEqual(this.rig.engine.limits.rowsMax)
    if (this.random() < 0.003) {
      throw new Error('the device fell over')
    }
  }

  arrive(): void {
    const pick = (count: number): number => Math.floor(this.random() * count)
    // Tenant 0 floods; the popular adapters are asked for most.
    const tenant = this.random() < 0.5 ? 0 : 1 + pick(TENANTS - 1)
    const adapter = Math.floor(this.random() ** 2 * (ADAPTERS + 1)) - 1
    const promptLength = 1 + pick(this.random() < 0.1 ? 300 : 30)
    // Every second prompt begins as others do.
    const beginning = this.#beginnings[pick(8)]?.slice(0, pick(100)) ?? []
    const request: GenerateRequest = {
      request_id: `req_${this.clients.length + this.refusals}`,
      attempt: 1,
      tenant_id: `ten_${tenant}`,
      key_id: null,
      model: 'm',
      model_id: null,
      adapter_version_id: null,
      adapter_digest: adapter < 0 ? null : digestOf(adapter),
      base_model: 'fake-base',
      price_version_id: null,
      lease_ids: [],
      input: {
        kind: 'tokens',
        tokens: beginning.concat(
          Array.from({ length: promptLength }, () => (this.random() < 0.2 ? 120 : pick(256))),
        ),
      },
      sampling: samplingOptions.parse({}),
      n: this.random() < 0.3 ? 2 + pick(3) : 1,
      max_tokens: 1 + pick(60),
      stop: [],
      deadline_ms: null,
      tenant_weight: 1,
      is_whole: false,
      ignore_eos: false,
      logprobs: false,
      top_logprobs: 0,
    }
    let generation: Generation
    try {
      generation = this.rig.scheduler.submit(request)
    } catch (error) {
      expect(error).toBeInstanceOf(HostError)
      expect(error).toMatchObject({ code: 'queue_full', retryAfterMs: expect.any(Number) })
      this.refusals += 1
      return
    }
    const client: Client = { request, generation, events: [], isCancelled: false }
    this.clients.push(client)
    // One in 30 stops reading, and must not hold up anybody else.
    void this.#consume(client, this.random() < 0.03 ? 3 : Number.POSITIVE_INFINITY)
    if (this.random() < 0.15) {
      this.rig.clock.setTimer(this.random() * 300, () => {
        client.isCancelled = true
        generation.cancel()
      })
    }
  }

  async #consume(client: Client, readsMax: number): Promise<void> {
    for (let reads = 0; reads < readsMax; reads++) {
      const event = await client.generation.next()
      if (event === null) return
      client.events.push(event)
    }
    await sleep(this.rig.clock, 20_000)
    await this.#consume(client, Number.POSITIVE_INFINITY)
  }

  async run(): Promise<void> {
    for (let burst = 0; burst < 60; burst++) {
      const arrivals = Math.floor(this.random() * 6)
      for (let i = 0; i < arrivals; i++) this.arrive()
      await this.rig.clock.advance(this.random() * 60)
    }
    await this.rig.clock.advance(30_000)
  }
}

const promptOf = ({ request }: Client): readonly number[] =>
  request.input.kind === 'tokens' ? request.input.tokens : []

/** What a choice must say. */
function expectedOf(client: Client, choice: number, simulation: Simulation): number[] {
  const { request } = client
  const script = simulation.scripts.get(request.adapter_digest ?? '')
  return expectedTokens(script?.payload ?? null, promptOf(client), {
    tokensMax: request.max_tokens ?? 0,
    eosOneIn: EOS_ONE_IN,
    seed: choiceSeed(RIG_SEED, choice),
  })
}

/** Tokens that two texts begin with alike. */
function countCommon(one: readonly number[], other: readonly number[]): number {
  const at = one.findIndex((token, index) => token !== other[index])
  return at < 0 ? one.length : at
}

/** Cached tokens were said before: to the same tenant, under the same adapter, word for word. */
function checkCached(client: Client, cached: number, simulation: Simulation): void {
  const { request } = client
  const prompt = promptOf(client)
  expect(cached).toBeLessThan(Math.max(1, prompt.length))
  const alike = simulation.clients.filter(
    (other) =>
      other !== client &&
      other.request.tenant_id === request.tenant_id &&
      other.request.adapter_digest === request.adapter_digest,
  )
  const said = alike.flatMap((other) =>
    Array.from({ length: other.request.n }, (_, choice) => [
      ...promptOf(other),
      ...expectedOf(other, choice, simulation),
    ]),
  )
  expect(cached).toBeLessThanOrEqual(Math.max(0, ...said.map((text) => countCommon(text, prompt))))
}

function checkClient(client: Client, simulation: Simulation): void {
  const { request, events, isCancelled } = client
  const last = events.at(-1)
  const chunks = events.filter((event) => event.type === 'chunk')
  const prompt = promptOf(client)
  const isWhole = last?.type === 'end' && last.finish_reason !== 'abort'
  let tokens = 0
  for (let choice = 0; choice < request.n; choice++) {
    const expected = expectedOf(client, choice, simulation)
    tokens += expected.length
    const expectedText = String.fromCharCode(...expected.filter((token) => token !== FAKE_EOS))
    const own = chunks.filter((chunk) => chunk.choice === choice)
    const text = own.map((chunk) => chunk.text).join('')
    expect(expectedText.startsWith(text)).toBe(true)
    const finish = expected.at(-1) === FAKE_EOS ? 'stop' : 'length'
    if (own.at(-1)?.finish_reason != null || isWhole) {
      expect(text).toBe(expectedText)
      expect(own.at(-1)?.finish_reason).toBe(finish)
    }
    for (const chunk of own.slice(0, -1)) expect(chunk.finish_reason).toBeNull()
  }
  expect(events[0]?.type).toBe('accepted')
  expect(last?.type === 'end' || last?.type === 'error').toBe(true)
  if (isWhole) {
    expect(last.usage.completion_tokens).toBe(tokens)
    expect(last.usage.prompt_tokens).toBe(prompt.length)
  }
  if (last?.type === 'end' && last.finish_reason === 'abort') expect(isCancelled).toBe(true)
  const usage = last?.type === 'end' || last?.type === 'error' ? last.usage : null
  expect(chunks.length).toBe(usage?.completion_tokens)
  checkCached(client, usage?.cached_prompt_tokens ?? 0, simulation)
}

/** Every microsecond of the engine and of loads is in one event, or counted as nobody's. */
async function checkCost({ rig, stepUs, scripts }: Simulation): Promise<void> {
  const events = rig.usage()
  const { values } = await rig.metrics.unattributedSeconds.get()
  const nobodysUs = (kind: string): number => {
    const seconds = values.find(({ labels }) => labels.kind === kind)?.value ?? 0
    return Math.round(seconds * 1e6)
  }
  const sum = (counts: readonly number[]): number => counts.reduce((a, b) => a + b, 0)
  expect(sum(events.map(({ gpu_us }) => gpu_us)) + nobodysUs('step')).toBe(stepUs)
  const { loadedUs, unusedSwapUs, uncarriedUs } = rig.adapters
  const carriedUs = sum(events.map(({ swap_us }) => swap_us)) + nobodysUs('swap')
  expect(carriedUs + unusedSwapUs + uncarriedUs).toBe(loadedUs)
  for (const { adapter_digest, adapter_bytes } of events) {
    expect(adapter_bytes).toBe(scripts.get(adapter_digest ?? '')?.payload.length ?? 0)
  }
}

const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8]

describe('scheduler, simulated', () => {
  it.each(SEEDS)('keeps its invariants (seed %i)', async (seed) => {
    const simulation = new Simulation(seed)
    try {
      await simulation.run()
      expect(simulation.rig.scheduler.load()).toMatchObject({ sequencesRunning: 0, queueDepth: 0 })
      expect(simulation.rig.engine.openSequences.size).toBe(0)
      expect(simulation.rig.adapters.pins).toBe(0)
      expect(simulation.rig.journal.openCount).toBe(0)
      expect(simulation.rig.scheduler.kvPages.used).toBe(0)
      for (const client of simulation.clients) checkClient(client, simulation)

      const events = simulation.rig.usage()
      const byId = new Map(events.map((event) => [event.request_id, event]))
      expect(byId.size).toBe(events.length)
      for (const { request, events: seen } of simulation.clients) {
        const last = seen.at(-1)
        const usage = last?.type === 'end' || last?.type === 'error' ? last.usage : null
        const event = byId.get(request.request_id)
        expect(event?.completion_tokens ?? 0).toBe(usage?.completion_tokens)
        expect(event?.prompt_tokens ?? 0).toBe(usage?.prompt_tokens)
        expect(event?.cached_prompt_tokens ?? 0).toBe(usage?.cached_prompt_tokens)
      }
      await checkCost(simulation)
    } finally {
      await simulation.rig.dispose()
    }
  })

  it('is not vacuous: the seeds meet refusals, aborts, errors, rejected steps, hits and preemptions', async () => {
    const simulation = new Simulation(3)
    try {
      await simulation.run()
      const outcomes = await simulation.rig.metrics.requests.get()
      const seen = outcomes.values.map(({ labels }) => labels.outcome)
      expect(seen).toEqual(
        expect.arrayContaining(['stop', 'length', 'abort', 'adapter_load_failed', 'engine_failed']),
      )
      const distinct = await simulation.rig.metrics.stepDistinctSlots.get()
      const upTo = (le: number): number =>
        distinct.values.find((value) => value.labels.le === le)?.value ?? 0
      expect(upTo(3) - upTo(2)).toBeGreaterThan(0)
      const { prefixHitTokens, prefixEvictions, kvPreemptions } = simulation.rig.metrics
      for (const counter of [prefixHitTokens, prefixEvictions, kvPreemptions]) {
        expect((await counter.get()).values[0]?.value).toBeGreaterThan(0)
      }
      expect(simulation.rig.usage().some((event) => event.cached_prompt_tokens > 0)).toBe(true)
      const { values } = await simulation.rig.metrics.unattributedSeconds.get()
      for (const kind of ['step', 'swap', 'failed_step']) {
        expect(values.find(({ labels }) => labels.kind === kind)?.value).toBeGreaterThanOrEqual(0)
      }
      expect(values.find(({ labels }) => labels.kind === 'step')?.value).toBeGreaterThan(0)
      expect(simulation.rig.usage().some((event) => event.swap_us > 0)).toBe(true)
    } finally {
      await simulation.rig.dispose()
    }
  })
})
