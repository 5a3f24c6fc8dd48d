/**
 * Clients that leave: whole edge and whole host over real sockets, the fake engine one step at a
 * time. Whatever a client does and wherever it leaves, it owes the tokens that it got and at most
 * those of one chunk more; the engine is done with it within two steps; nothing stays behind.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { inArray, sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { addPrice } from '../../db/queries/prices.ts'
import { ledgerEntries } from '../../db/schema/ledger-entries.ts'
import { readConfig } from '../../gpu-host/config.ts'
import { Gate } from '../../gpu-host/test/support/gate.ts'
import { createApp } from '../app.ts'
import { AnswerTally } from './support/answer-tally.ts'
import type { TestTenant } from './support/pool-client.ts'
import type { PoolHost } from './support/pool-host.ts'
import { StreamCaller } from './support/stream-caller.ts'
import { expectedReply, POOL_SECRET, TestPool, until } from './support/test-pool.ts'

const CASES = Number(process.env.NOZZLE_DELIVERY_CASES ?? 2048)
const COHORT = 128
const TOKENS_MAX = 6
/** Charged per token, so that a ledger amount says how many there were. */
const PROMPT_PUSD = 1n
const COMPLETION_PUSD = 1_000_000n

let pool: TestPool
let host: PoolHost
let tenant: TestTenant
const gate = new Gate()
/** By what the user says: the request that it became, and attempts that are under way. */
const requestIds = new Map<string, string>()
const underWay = new Set<string>()
/** Whose edge dies before it can say that the client left. */
const mute = new Set<string>()

/** Between edge and host: learns ids, and keeps the calls of a mute edge from arriving. */
const watchedFetch: typeof globalThis.fetch = async (input, init) => {
  const url = String(input instanceof Request ? input.url : input)
  const body = typeof init?.body === 'string' ? init.body : '{}'
  if (url.endsWith('/generate')) {
    const { request_id, input: asked } = JSON.parse(body)
    const name = asked.messages[0].content
    requestIds.set(name, request_id)
    underWay.add(name)
    init?.signal?.addEventListener('abort', () => underWay.delete(name))
  }
  if (url.endsWith('/cancel')) {
    const { request_id } = JSON.parse(body)
    if ([...mute].some((name) => requestIds.get(name) === request_id)) throw new Error('muted')
  }
  return fetch(input, init)
}

beforeAll(async () => {
  pool = await TestPool.start({ fetch: watchedFetch })
  const { scheduler } = readConfig({
    NOZZLE_POOL_SECRET: POOL_SECRET,
    NOZZLE_BASE_MODEL_PATH: 'none',
    NOZZLE_BASE_MODEL_NAME: 'fake-base',
  })
  host = await pool.addHost({
    engine: {
      delay: () => gate.pass(),
      limits: { sequenceCount: 3 * COHORT, rowsMax: 8192, slotCount: 8 },
    },
    settings: {
      scheduler: {
        ...scheduler,
        prefillRowsMax: 8192,
        stepTargetUs: 1e9,
        // One tenant may have half of the queue.
        queueDepthMax: 1998,
        queueDepthTenantMax: 999,
      },
    },
  })
  await addPrice(pool.database.db, {
    baseModel: 'fake-base',
    promptPusd: PROMPT_PUSD,
    cachedPromptPusd: 0n,
    completionPusd: COMPLETION_PUSD,
  })
  tenant = await pool.addTenant()
  await pool.deploy(tenant, 'support', 'weights')
})
afterAll(async () => {
  gate.open()
  await pool.stop()
})

/** When a client leaves: `round` steps after the first, or as said. */
type Border = 'at once' | 'after the end' | number

interface Case {
  readonly name: string
  readonly model: 'support' | 'fake-base'
  readonly n: number
  readonly isStream: boolean
  readonly withUsage: boolean
  readonly isLate: boolean
  readonly isMute: boolean
  readonly stop: 'none' | 'hit' | 'held back'
  readonly border: Border
}

/** Every combination comes up in turn; primes, so that no two go together always. */
function toCase(index: number): Case {
  const borders: Border[] = ['at once', 1, 2, 3, 4, 5, 6, 'after the end']
  return {
    name: `case ${index}`,
    model: index % 3 === 0 ? 'fake-base' : 'support',
    n: [1, 1, 2, 3, 1][index % 5] ?? 1,
    isStream: index % 7 !== 3,
    withUsage: index % 2 === 0,
    isLate: index % 11 === 4 || index % 11 === 7,
    isMute: index % 13 < 5,
    stop:
      (['none', 'none', 'hit', 'none', 'held back'] as const)[Math.floor(index / 5) % 5] ?? 'none',
    border: borders[Math.floor(index / 3) % borders.length] ?? 1,
  }
}

interface Plan {
  readonly stop: string | null
  /** Tokens of a choice that ends by itself. */
  readonly choiceTokens: number
  /** Most tokens that one chunk stands for. */
  readonly chunkTokensMax: number
}

function planOf({ name, model, stop: kind }: Case): Plan {
  const text = expectedReply(model === 'support' ? 'weights' : null, name, TOKENS_MAX)
  if (kind === 'none') return { stop: null, choiceTokens: TOKENS_MAX, chunkTokensMax: 1 }
  // Hidden from its first character on, or shown at once when its last one does not come.
  const stop = kind === 'hit' ? text.slice(3, 5) : `${text.slice(1, 4)}!`
  const at = text.indexOf(stop)
  const choiceTokens = at < 0 ? TOKENS_MAX : at + stop.length
  return { stop, choiceTokens, chunkTokensMax: stop.length + 1 }
}

interface Run {
  readonly plan: Plan
  readonly kase: Case
  readonly caller: StreamCaller
  /** Steps that the engine had made when the client left. */
  leftAtStep: number
}

function bodyOf(kase: Case, stop: string | null): object {
  return {
    model: kase.model,
    messages: [{ role: 'user', content: kase.name }],
    max_tokens: TOKENS_MAX,
    temperature: 0,
    n: kase.n,
    stream: kase.isStream,
    ...(stop !== null && { stop }),
    ...(kase.isStream && kase.withUsage && { stream_options: { include_usage: true } }),
  }
}

function call(kase: Case): Run {
  const plan = planOf(kase)
  if (kase.isMute) mute.add(kase.name)
  const caller = new StreamCaller({
    url: `${pool.url}/v1`,
    key: tenant.key,
    body: bodyOf(kase, plan.stop),
    choiceTokens: plan.choiceTokens,
    isLate: kase.isLate,
  })
  return { plan, kase, caller, leftAtStep: Number.POSITIVE_INFINITY }
}

/** Until nobody has heard anything for a moment. */
async function quiet(runs: readonly Run[]): Promise<void> {
  for (let before = -1; ; ) {
    await sleep(3)
    const heard = Math.max(...runs.map(({ caller }) => caller.heardMs))
    if (heard === before) return
    before = heard
  }
}

async function runCohort(runs: readonly Run[]): Promise<void> {
  const { scheduler } = host.host
  const isHere = ({ caller }: Run): boolean => !caller.hasLeft && !caller.tally.isComplete
  const leaveAll = async (leaving: readonly Run[]): Promise<void> => {
    for (const run of leaving) run.caller.drain()
    if (leaving.some(({ kase }) => kase.isLate)) await quiet(runs)
    for (const run of leaving) {
      run.leftAtStep = host.engine.steps
      run.caller.leave()
    }
    // The edge has noticed, and the host was told or finds the connection closed.
    await until(() => {
      for (const { kase } of leaving) expect(underWay).not.toContain(kase.name)
    })
  }
  await leaveAll(runs.filter(({ kase }) => kase.border === 'at once'))
  await until(() => {
    for (const { kase } of runs.filter(isHere)) expect(underWay).toContain(kase.name)
  })
  for (let round = 0; scheduler.load().sequencesRunning > 0; round++) {
    const { steps } = host.engine
    gate.open(1)
    await until(() => expect(host.engine.steps).toBeGreaterThan(steps))
    await quiet(runs)
    // Whoever left two steps ago takes part in no step any more.
    const running = runs.filter(({ leftAtStep }) => host.engine.steps - leftAtStep < 2)
    const most = running.reduce((sum, { kase }) => sum + kase.n, 0)
    expect(scheduler.load().sequencesRunning).toBeLessThanOrEqual(most)
    await leaveAll(runs.filter((run) => isHere(run) && run.kase.border === round))
    expect(round).toBeLessThan(40)
  }
  const staying = runs.filter(isHere)
  for (const { caller } of staying) caller.drain()
  await until(() => {
    for (const { caller, kase } of staying) expect(caller.tally.isComplete, kase.name).toBe(true)
  })
  for (const { caller } of runs) caller.leave()
}

/** Completion tokens that the ledger charges for each case. */
async function chargedTokens(cases: readonly Case[]): Promise<(kase: Case) => number> {
  const idOf = ({ name }: Case): string => requestIds.get(name) ?? ''
  const { kind, requestId, amountPusd } = ledgerEntries
  const signed = sql`case ${kind} when 'usage' then ${amountPusd} else -${amountPusd} end`
  const rows = await pool.database.db
    .select({ requestId, pusd: sql<string>`sum(${signed})::text` })
    .from(ledgerEntries)
    .where(inArray(requestId, cases.map(idOf)))
    .groupBy(requestId)
  const pusd = new Map(rows.map((row) => [row.requestId ?? '', BigInt(row.pusd)]))
  return (kase) => Number((pusd.get(idOf(kase)) ?? 0n) / COMPLETION_PUSD)
}

/** Reads so many pieces of the body as it is handed out, then leaves, after a pause or at once. */
async function readInProcess(kase: Case, pieces: number): Promise<AnswerTally> {
  const { stop, choiceTokens } = planOf(kase)
  if (kase.isMute) mute.add(kase.name)
  const response = await createApp(pool.deps).fetch(
    new Request('http://edge.test/v1/chat/completions', {
      method: 'POST',
      headers: { authorization: `Bearer ${tenant.key}` },
      body: JSON.stringify(bodyOf({ ...kase, isStream: true }, stop)),
    }),
  )
  const tally = new AnswerTally(choiceTokens)
  const reader = response.body?.getReader()
  for (let piece = 0; piece < pieces; piece++) {
    const { value } = (await reader?.read()) ?? {}
    if (value === undefined) break
    tally.take(new TextDecoder().decode(value))
  }
  // The host has long finished with it by then.
  if (kase.isLate) await sleep(20)
  await reader?.cancel()
  await until(() => expect(underWay).not.toContain(kase.name))
  return tally
}

/** Nothing is open, pinned or on its way any more. */
async function settled(): Promise<void> {
  const { scheduler, journal, outbox } = host.host
  await until(() => {
    expect(scheduler.load()).toMatchObject({ sequencesRunning: 0, queueDepth: 0, slotsInUse: 0 })
    expect(journal.openCount).toBe(0)
  })
  expect(host.engine.openSequences.size).toBe(0)
  expect(scheduler.kvPages.used).toBe(0)
  await until(() => expect(outbox.countUnshipped()).toBe(0))
}

describe('a client that leaves', () => {
  it(`owes what it got, and one chunk more at most, in ${CASES} cases`, async () => {
    const worst: Record<string, number> = {}
    for (let first = 0; first < CASES; first += COHORT) {
      const cases = Array.from({ length: COHORT }, (_, index) => toCase(first + index))
      const runs = cases.map(call)
      await runCohort(runs)
      await settled()
      const charged = await chargedTokens(cases)
      for (const { kase, plan, caller } of runs) {
        const billed = charged(kase)
        const got = caller.tally.tokens
        const at = JSON.stringify({ kase, billed, got })
        expect(billed, at).toBeGreaterThanOrEqual(got)
        // The edge has a whole reply until its end: one that the host is done with counts as given.
        const slack = !kase.isStream && kase.isMute ? kase.n * TOKENS_MAX : plan.chunkTokensMax
        expect(billed, at).toBeLessThanOrEqual(got + slack)
        if (caller.tally.isComplete) expect(billed, at).toBe(kase.n * plan.choiceTokens)
        const group = `${kase.isStream ? 'stream' : 'whole'}, edge ${kase.isMute ? 'dead' : 'alive'}`
        worst[group] = Math.max(worst[group] ?? 0, billed - got)
      }
    }
    console.info(`delivery: most tokens charged beyond those delivered: ${JSON.stringify(worst)}`)
  }, 300_000)

  it('owes what it took, though the host was long done, and corrects itself once', async () => {
    gate.open()
    const cases = Array.from({ length: 240 }, (_, index) => ({
      ...toCase(CASES + index),
      isStream: true,
    }))
    const tallies = new Map<Case, AnswerTally>()
    for (let first = 0; first < cases.length; first += COHORT) {
      const cohort = cases.slice(first, first + COHORT)
      const read = async (kase: Case, index: number): Promise<void> => {
        tallies.set(kase, await readInProcess(kase, index % (kase.n * TOKENS_MAX + 3)))
      }
      await Promise.all(cohort.map(read))
    }
    await settled()
    const charged = await chargedTokens(cases)
    for (const [kase, tally] of tallies) {
      const { chunkTokensMax, choiceTokens } = planOf(kase)
      const billed = charged(kase)
      const at = JSON.stringify({ kase, billed, got: tally.tokens })
      expect(billed, at).toBeGreaterThanOrEqual(tally.tokens)
      // What lay between host and edge is nobody's word but the edge's.
      const most = kase.isMute ? kase.n * choiceTokens : tally.tokens + chunkTokensMax
      expect(billed, at).toBeLessThanOrEqual(most)
    }
    const metrics = await (await fetch(`${pool.url}/metrics`)).text()
    expect(metrics).toMatch(/cancels_total\{outcome="corrected"\} [1-9]/)
  })
})
