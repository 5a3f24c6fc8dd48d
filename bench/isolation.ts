/**
 * `bench isolation`: whether tenants ever meet on a host. Four proofs on the host's own scheduler,
 * adapter tiers, books and engine: every token of adapters in turns, random worlds of identities,
 * what the cache tells by its timing, and what is left of one tenant for the next.
 */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Scheduler } from '../gpu-host/scheduler/scheduler.ts'
import { checkIdentity } from '../gpu-host/test/support/identity-world.ts'
import { runAlternation } from './isolation/alternation.ts'
import { type CacheTimingOutcome, runCacheTiming } from './isolation/cache-timing.ts'
import {
  createKnownAnswers,
  type KnownAnswers,
  openIsolationEngine,
} from './isolation/known-answers.ts'
import { checkResidue } from './isolation/residue.ts'
import { checkSecrets } from './isolation/secret-host.ts'
import { createBenchScheduler } from './lib/bench-scheduler.ts'

/** `work`: of `timing` what no clock is in, for machines on which a clock tells nothing. */
export const ISOLATION_PARTS = ['answers', 'identity', 'timing', 'work', 'residue'] as const
export type IsolationPart = (typeof ISOLATION_PARTS)[number]

export interface IsolationOptions {
  readonly seed: number
  readonly requests: number
  /** Random worlds. */
  readonly cases: number
  /** Probes of each arm. */
  readonly samples: number
  /** Of the search for what is left. */
  readonly rounds: number
  readonly adapters: number
  readonly prefixes: number
  readonly parts: readonly IsolationPart[]
}

export interface IsolationReport {
  readonly seed: number
  readonly answers: Awaited<ReturnType<typeof proveAnswers>> | null
  readonly identity: ReturnType<typeof proveIdentity> | null
  readonly timing: Awaited<ReturnType<typeof proveTiming>> | null
  readonly residue: Awaited<ReturnType<typeof proveResidue>> | null
  /** What went wrong, each with the options that run it again. */
  readonly findings: readonly string[]
  readonly wall_s: number
}

const SLOTS = 4
const SEQUENCES = 24
/** Fewer than the sequences may want: pages are given up, and sequences lose theirs. */
const KV_CELLS = 7200
const TENANTS = 6
/** More than sequences, so that some always wait. */
const CLIENTS = 40
const P_SAME = 0.01
const P_SEEN = 1e-8

interface Setting extends IsolationOptions {
  readonly known: KnownAnswers
  readonly scratch: string
}

export async function runIsolation(options: IsolationOptions): Promise<IsolationReport> {
  const { seed, parts } = options
  const startMs = performance.now()
  const scratch = mkdtempSync(join(tmpdir(), 'nozzle-isolation-'))
  try {
    const packs = join(scratch, 'disk')
    note('asking for the answers of each adapter, twice')
    const known = await createKnownAnswers({
      ...{ directory: scratch, packs, seed, adapters: options.adapters },
      ...{ prefixes: options.prefixes, promptsPerPrefix: 3 },
    })
    const setting = { ...options, known, scratch }
    const has = (part: IsolationPart): boolean => parts.includes(part)
    const answers = has('answers') ? await proveAnswers(setting) : null
    const timing = has('timing') || has('work') ? await proveTiming(setting) : null
    const residue = has('residue') ? await proveResidue(setting) : null
    const identity = has('identity') ? proveIdentity(setting) : null
    const found = { answers, identity, timing, residue }
    return {
      seed,
      ...found,
      findings: findingsOf(found, options),
      wall_s: Math.round((performance.now() - startMs) / 100) / 10,
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

/** Whether the report shows what it must. */
export function isIsolated({ findings }: IsolationReport): boolean {
  return findings.length === 0
}

/** For what fails while requests run: the engine is not closed under them. */
function closing(scheduler: Scheduler): (error: unknown) => Promise<never> {
  return async (error) => {
    await scheduler.close()
    throw error
  }
}

/** With a journal of its own, and the packs of all. */
function ownFolder(scratch: string, name: string): string {
  const folder = join(scratch, name)
  mkdirSync(folder)
  symlinkSync(join(scratch, 'disk'), join(folder, 'disk'))
  return folder
}

function note(text: string): void {
  process.stderr.write(`isolation: ${text}\n`)
}

async function proveAnswers({ known, scratch, requests, seed }: Setting) {
  note(`${requests} requests of ${known.adapters.length} adapters over ${SLOTS} slots`)
  const engine = await openIsolationEngine(known.modelPath, {
    ...{ slots: SLOTS, sequences: SEQUENCES, threads: 1, kvCells: KV_CELLS },
  })
  try {
    // RAM for a third of the adapters: the others come from disk each time.
    const ramBytes = Math.ceil(known.adapters.length / 3) * known.payloadBytes
    const scheduler = await createBenchScheduler(engine, ownFolder(scratch, 'answers'), ramBytes)
    const startMs = performance.now()
    const load = { requests, clients: CLIENTS, tenants: TENANTS, seed, note }
    const outcome = await runAlternation(scheduler, known, load).catch(closing(scheduler))
    const seconds = (performance.now() - startMs) / 1000
    await scheduler.idle()
    const { used } = scheduler.kvPages
    const { slotsInUse } = scheduler.load()
    await scheduler.close()
    return {
      requests: outcome.requests,
      adapters: known.adapters.length,
      tenants: TENANTS,
      slots: SLOTS,
      reference_answers_equal: known.passedTwice,
      cancelled: outcome.cancelled,
      missing_adapter_refused: outcome.refused,
      tokens: outcome.tokens,
      wrong_tokens: outcome.wrongTokens,
      cached_tokens: outcome.cachedTokens,
      first_of_their_kind: outcome.firstOfTheirKind,
      foreign_cached_tokens: outcome.foreignCachedTokens,
      pages_left_over: used,
      slots_left_over: slotsInUse,
      requests_s: Math.round(requests / seconds),
      findings: outcome.findings,
    }
  } finally {
    await engine.close()
  }
}

function proveIdentity({ seed, cases }: Setting) {
  note(`${cases} random worlds`)
  const { tally, failure } = checkIdentity(seed, cases)
  return {
    cases,
    operations: tally.operations,
    rows: tally.rows,
    hit_cells: tally.hitCells,
    refused: tally.refused,
    page_evictions: tally.pageEvictions,
    loads: tally.loads,
    failure,
  }
}

/** With an adapter that both tenants have, which is the harder case than the base. */
async function proveTiming({ known, scratch, samples, seed }: Setting) {
  note(`${samples} probes of each arm`)
  const engine = await openIsolationEngine(known.modelPath, {
    ...{ slots: 2, sequences: 2, threads: 1, kvCells: 0 },
  })
  try {
    const ramBytes = 4 * known.payloadBytes
    const scheduler = await createBenchScheduler(engine, ownFolder(scratch, 'timing'), ramBytes)
    const digest = known.adapters.find((adapter) => adapter.digest !== null)?.digest ?? null
    const probes = runCacheTiming(scheduler, engine, { samples, seed, digest })
    const outcome = await probes.catch(closing(scheduler))
    await scheduler.close()
    return toTimingReport(outcome)
  } finally {
    await engine.close()
  }
}

function toTimingReport(outcome: CacheTimingOutcome) {
  const { otherTenant, sameTenant } = outcome
  return {
    samples_per_arm: outcome.samples,
    prompt_tokens: outcome.promptTokens,
    other_tenant_p_time: otherTenant.ms.p,
    other_tenant_p_rows: otherTenant.rows.p,
    other_tenant_p_steps: otherTenant.steps.p,
    other_tenant_cached_tokens: outcome.otherCachedTokens,
    same_tenant_p_time: sameTenant.ms.p,
    same_tenant_p_rows: sameTenant.rows.p,
    same_tenant_p_cached: sameTenant.cached.p,
    median_ms: outcome.medianMs,
  }
}

async function proveResidue({ known, scratch, rounds, seed }: Setting) {
  note(`${rounds} rounds of what is left`)
  const device = await checkResidue(known.modelPath, { rounds, seed })
  const host = await checkSecrets(known, scratch, rounds)
  return {
    rounds,
    numbers_compared: device.compared,
    numbers_differing: device.differing,
    secrets: host.secrets,
    places_searched: host.places,
    bytes_searched: host.bytes,
    answered: host.answered,
    refused: host.refused,
    found: host.found,
    is_seen_where_it_is: host.isSeenWhereItIs,
    findings: device.findings,
  }
}

type Proofs = Pick<IsolationReport, 'answers' | 'identity' | 'timing' | 'residue'>

function findingsOf(
  { answers, identity, timing, residue }: Proofs,
  options: IsolationOptions,
): string[] {
  const { seed, requests, cases, samples, rounds, adapters, prefixes } = options
  const found: [IsolationPart, string][] = []
  const must = (part: IsolationPart, isSo: boolean, what: string): void => {
    if (!isSo) found.push([part, what])
  }
  if (answers !== null) {
    for (const each of answers.findings) found.push(['answers', each])
    must('answers', answers.wrong_tokens === 0, `${answers.wrong_tokens} wrong tokens`)
    const { foreign_cached_tokens: foreign, pages_left_over, slots_left_over } = answers
    must('answers', foreign === 0, `${foreign} tokens found in others' cells`)
    must('answers', pages_left_over + slots_left_over === 0, 'pages or slots are held by nobody')
    must('answers', answers.cached_tokens > 0, 'nothing was cached: nothing was tried')
  }
  if (identity !== null) must('identity', identity.failure === null, identity.failure ?? '')
  if (timing !== null) {
    const part = options.parts.includes('timing') ? 'timing' : 'work'
    const { other_tenant_p_rows: rows } = timing
    // How long the last steps took decides how many rows the next ones have.
    const { other_tenant_p_time: time, other_tenant_p_steps: steps } = timing
    const told = part === 'timing' ? Math.min(time, rows, steps) : rows
    must(part, told > P_SAME, `another tenant can tell: p ${time}, rows ${rows}, steps ${steps}`)
    must(part, timing.other_tenant_cached_tokens === 0, 'cells of another tenant were used')
    const ownTime = part === 'timing' ? timing.same_tenant_p_time : 0
    const own = Math.max(ownTime, timing.same_tenant_p_rows)
    must(part, own < P_SEEN, `the test does not see what is there: p ${own}`)
  }
  if (residue !== null) {
    for (const each of [...residue.findings, ...residue.found]) found.push(['residue', each])
    must('residue', residue.is_seen_where_it_is, 'the search does not find what is there')
  }
  const sizes =
    `--seed ${seed} --requests ${requests} --cases ${cases} --samples ${samples} ` +
    `--rounds ${rounds} --adapters ${adapters} --prefixes ${prefixes}`
  return found.map(([part, what]) => `${part}: ${what} (isolation --part ${part} ${sizes})`)
}
