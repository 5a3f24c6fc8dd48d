/**
 * Whether a tenant can learn from the cache what another one has asked. A asks something, then B
 * asks: the same, or something that nobody has asked. By what B can see (time to the first token,
 * cached tokens on the bill) and by what the host did for it (rows, steps) the two must not be told
 * apart; where A itself asks again, they must, or the test would see nothing. All arms take turns
 * in each round, in an order of its own, so that what else the machine does falls on all alike.
 */
import type { StepBatch } from '../../gpu-host/engine.ts'
import type { Scheduler } from '../../gpu-host/scheduler/scheduler.ts'
import { createRequest } from '../../gpu-host/test/support/test-host.ts'
import type { NativeEngine } from '../../native/index.ts'
import { Random } from '../../native/test/support/random.ts'
import { type KolmogorovSmirnov, kolmogorovSmirnov } from '../lib/kolmogorov-smirnov.ts'
import { median } from '../lib/statistics.ts'
import { BASE_MODEL, randomWords } from './known-answers.ts'

export interface CacheTimingOptions {
  /** Of each arm. */
  readonly samples: number
  readonly seed: number
  /** Asked with an adapter that both tenants have deployed; null = the base alone. */
  readonly digest: string | null
}

/** `primed`: A has asked just that before; `fresh`: something else. */
const ARMS = ['other primed', 'other fresh', 'same primed', 'same fresh'] as const
type Arm = (typeof ARMS)[number]

/** What one probe is measured by. */
const MEASURES = ['ms', 'rows', 'steps', 'cached'] as const
type Probe = Readonly<Record<(typeof MEASURES)[number], number>>
type Tests = Readonly<Record<(typeof MEASURES)[number], KolmogorovSmirnov>>

export interface CacheTimingOutcome {
  readonly samples: number
  readonly promptTokens: number
  /** Primed against fresh: of another tenant, and of the same one. */
  readonly otherTenant: Tests
  readonly sameTenant: Tests
  readonly medianMs: Readonly<Record<Arm, number>>
  /** Tokens that any probe of another tenant found cached. */
  readonly otherCachedTokens: number
}

const PROMPT_TOKENS = 320
/** Rounds before the first that counts. */
const WARM_UP = 20

export async function runCacheTiming(
  scheduler: Scheduler,
  engine: NativeEngine,
  { samples, seed, digest }: CacheTimingOptions,
): Promise<CacheTimingOutcome> {
  const work = watchSteps(engine)
  const random = new Random('cache-timing', seed)
  const ask = async (tenant: string, tokens: readonly number[]): Promise<Probe> => {
    const before = { ...work }
    const { ms, cached } = await askOne(scheduler, tenant, tokens, digest)
    return { ms, cached, rows: work.rows - before.rows, steps: work.steps - before.steps }
  }
  const probes = new Map<Arm, Probe[]>(ARMS.map((arm) => [arm, []]))
  for (let round = -WARM_UP; round < samples; round += 1) {
    for (const arm of shuffled(ARMS, random)) {
      const primed = randomWords(random, PROMPT_TOKENS)
      await ask('ten_a', primed)
      const asked = arm.endsWith('primed') ? primed : randomWords(random, PROMPT_TOKENS)
      const probe = await ask(arm.startsWith('other') ? 'ten_b' : 'ten_a', asked)
      if (round >= 0) probes.get(arm)?.push(probe)
    }
  }
  work.stop()
  const test = (who: 'other' | 'same') => compare(probes, `${who} primed`, `${who} fresh`)
  const others = [...of(probes, 'other primed'), ...of(probes, 'other fresh')]
  return {
    samples,
    promptTokens: PROMPT_TOKENS,
    otherTenant: test('other'),
    sameTenant: test('same'),
    medianMs: Object.fromEntries(
      ARMS.map((arm) => [arm, median(of(probes, arm).map(({ ms }) => ms))]),
    ) as Record<Arm, number>,
    otherCachedTokens: others.reduce((sum, { cached }) => sum + cached, 0),
  }
}

function of(probes: ReadonlyMap<Arm, readonly Probe[]>, arm: Arm): readonly Probe[] {
  return probes.get(arm) ?? []
}

function compare(probes: ReadonlyMap<Arm, readonly Probe[]>, one: Arm, other: Arm): Tests {
  const values = (arm: Arm, measure: keyof Probe) => of(probes, arm).map((each) => each[measure])
  const entries = MEASURES.map((measure) => [
    measure,
    kolmogorovSmirnov(values(one, measure), values(other, measure)),
  ])
  return Object.fromEntries(entries) as Tests
}

/** Milliseconds to the first token, and what the bill says was cached. */
async function askOne(
  scheduler: Scheduler,
  tenant: string,
  tokens: readonly number[],
  digest: string | null,
): Promise<{ readonly ms: number; readonly cached: number }> {
  const startMs = performance.now()
  const generation = scheduler.submit(
    createRequest({
      ...{ tenant_id: tenant, adapter_digest: digest, base_model: BASE_MODEL, ignore_eos: true },
      input: { kind: 'tokens', tokens: [...tokens] },
      max_tokens: 1,
    }),
  )
  let ms = Number.NaN
  for (let event = await generation.next(); event !== null; event = await generation.next()) {
    if (event.type === 'chunk') ms = performance.now() - startMs
    if (event.type === 'error') throw new Error(`a probe failed: ${event.code}`)
    if (event.type === 'end') return { ms, cached: event.usage.cached_prompt_tokens }
  }
  throw new Error('a probe ended without its end')
}

/** Counts what the engine runs, until it is told to stop. */
function watchSteps(engine: NativeEngine): { rows: number; steps: number; stop(): void } {
  const step = engine.step.bind(engine)
  const work = { rows: 0, steps: 0, stop: () => void Reflect.deleteProperty(engine, 'step') }
  engine.step = (batch: StepBatch) => {
    work.steps += 1
    work.rows += batch.tokens.length
    return step(batch)
  }
  return work
}

function shuffled<T>(values: readonly T[], random: Random): T[] {
  const all = [...values]
  for (let at = all.length - 1; at > 0; at -= 1) {
    const other = random.integer(at + 1)
    const [one, two] = [all[at], all[other]]
    if (one === undefined || two === undefined) continue
    all[at] = two
    all[other] = one
  }
  return all
}
