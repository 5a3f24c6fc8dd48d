/**
 * The cases on a simulated disk: the real journal, its recovery, the real outbox and the real
 * ledger (PGlite), over lives that end at a chosen call to the disk, by the death of the process or
 * of the machine, also in the middle of a recovery, some after an fsync that failed.
 */
import { type Database, openDatabase } from '../../db/client.ts'
import { createId } from '../../db/ids.ts'
import { upsertBaseModel } from '../../db/queries/base-models.ts'
import type { Clock } from '../../gpu-host/clock.ts'
import { CURSOR_START, readSettled } from '../../gpu-host/journal/settled-reader.ts'
import { createMetrics } from '../../gpu-host/telemetry/metrics.ts'
import { VirtualClock } from '../../gpu-host/test/support/virtual-clock.ts'
import { Random } from '../../native/test/support/random.ts'
import { readCharges } from './charges.ts'
import { DyingDisk, type Fate, IMMORTAL } from './dying-disk.ts'
import { LossyEdge } from './lossy-edge.ts'
import { MortalClock } from './mortal-clock.ts'
import { auditSimulated, type SimulatedAudit } from './simulated-audit.ts'
import { FSYNC_MS_MAX, JOURNAL, SimulatedHost, type SimulatedRequest } from './simulated-host.ts'

export const DEATHS = ['kill', 'power', 'fsync_error'] as const
export type Death = (typeof DEATHS)[number]

export interface SimulatedOptions {
  readonly seed: number
  readonly numbers: readonly number[]
  readonly note: (text: string) => void
}

export interface SimulatedOutcome {
  readonly cases: Readonly<Record<Death, number>>
  readonly deaths: number
  readonly deathsInRecovery: number
  readonly audits: readonly SimulatedAudit[]
}

const BASE_MODEL = 'simulated-base'
const ACTIONS = 60
const FIRST_CALLS_MAX = 140
/** A recovery makes about as many. */
const NEXT_CALLS_MAX = 40
const LIVES_MAX = 4
const RESTART_MS_MAX = 2000
const CASES_PER_NOTE = 200
const START_MS = Date.UTC(2026, 10, 30, 23, 59)

export async function runSimulatedCases(options: SimulatedOptions): Promise<SimulatedOutcome> {
  const database = await openDatabase('pglite:memory')
  try {
    await database.migrate()
    await upsertBaseModel(database.db, { name: BASE_MODEL, digest: `sha256:${'0'.repeat(64)}` })
    const cases = { kill: 0, power: 0, fsync_error: 0 }
    const audits: SimulatedAudit[] = []
    let deaths = 0
    let deathsInRecovery = 0
    for (const number of options.numbers) {
      const run = new SimulatedCase(options.seed, number, database)
      audits.push(await run.run())
      cases[run.death] += 1
      deaths += run.deaths
      deathsInRecovery += run.deathsInRecovery
      if (audits.length % CASES_PER_NOTE === 0) options.note(`fault: ${audits.length} simulated`)
    }
    return { cases, deaths, deathsInRecovery, audits }
  } finally {
    await database.close()
  }
}

const metrics = createMetrics({ withProcess: false })

class SimulatedCase {
  readonly death: Death
  deaths = 0
  deathsInRecovery = 0
  readonly #number: number
  readonly #random: Random
  readonly #database: Database
  readonly #tenantId = createId('ten')
  readonly #clock = new VirtualClock(START_MS)
  readonly #disk: DyingDisk
  readonly #edge: LossyEdge
  readonly #requests: SimulatedRequest[] = []
  readonly #syncs: { readonly startMs: number; endMs: number }[] = []

  constructor(seed: number, number: number, database: Database) {
    const random = new Random('fault', 'simulated', seed, number)
    this.#number = number
    this.#random = random
    this.#database = database
    this.death = DEATHS[number % DEATHS.length] ?? 'kill'
    this.#edge = new LossyEdge(database.db, random, this.#clock)
    this.#disk = new DyingDisk({
      random: () => random.fraction(),
      defer: (run) => this.#sync(run),
      nowMs: () => this.#clock.nowMs(),
    })
  }

  async run(): Promise<SimulatedAudit> {
    const lives = 1 + this.#random.integer(LIVES_MAX)
    for (let life = 0; life < lives; life++) {
      this.#disk.beginLife(this.#drawFate(life))
      const clock = new MortalClock(this.#clock)
      await this.#live(clock)
      clock.die()
      this.deaths += 1
      if (this.#losesPower()) this.#disk.powerLoss()
      else this.#disk.kill()
      await this.#clock.advance(this.#random.integer(RESTART_MS_MAX))
    }
    return this.#heal()
  }

  /** A life of some requests, or no life at all when recovery is where it ends. */
  async #live(clock: Clock): Promise<void> {
    const host = this.#start(clock)
    if (host === null) {
      this.deathsInRecovery += 1
      return
    }
    for (let action = 0; action < ACTIONS && !host.isOver; action++) {
      await this.#act(host)
      // On a disk that works, nothing may be refused.
      if (host.refusal !== null && !host.isOver) throw host.refusal
    }
    for (const request of host.requests) request.endedMs = host.overMs ?? this.#clock.nowMs()
    this.#requests.push(...host.requests)
  }

  async #act(host: SimulatedHost): Promise<void> {
    const luck = this.#random.fraction()
    if (luck < 0.2) host.open()
    else if (luck < 0.6) host.step()
    else if (luck < 0.65) host.abort()
    else if (luck < 0.75) await this.#ship(host)
    else await this.#clock.advance(1 + this.#random.integer(60))
  }

  /**
   * One batch, to its end. The ledger's answer takes no virtual time; the fsync of the cursor does.
   */
  async #ship(host: SimulatedHost): Promise<'empty' | 'more' | 'failed'> {
    let outcome: 'empty' | 'more' | 'failed' | null = null
    const shipping = host.outbox.shipOnce().then((it) => {
      outcome = it
    })
    while (outcome === null) {
      await this.#edge.settled
      await this.#clock.advance(1)
    }
    await shipping
    return outcome
  }

  /** null = it died in recovery. */
  #start(clock: Clock): SimulatedHost | null {
    try {
      return this.#createHost(clock)
    } catch (error) {
      if (this.#disk.diedMs !== null || this.death === 'fsync_error') return null
      throw error
    }
  }

  #createHost(clock: Clock): SimulatedHost {
    return new SimulatedHost({
      disk: this.#disk,
      clock,
      edge: this.#edge,
      random: this.#random,
      metrics,
      createFacts: () => ({
        request_id: createId('req', this.#clock.nowMs()),
        attempt: 1,
        tenant_id: this.#tenantId,
        key_id: 'key_1',
        model: BASE_MODEL,
        model_id: null,
        adapter_version_id: null,
        adapter_digest: null,
        base_model: BASE_MODEL,
        price_version_id: null,
        lease_ids: [],
      }),
    })
  }

  /** A last start without faults ships everything; then the books are looked at. */
  async #heal(): Promise<SimulatedAudit> {
    this.#disk.beginLife(IMMORTAL)
    this.#edge.isReliable = true
    const host = this.#createHost(this.#clock)
    await this.#clock.advance(1000)
    while ((await this.#ship(host)) === 'more') {}
    await this.#edge.deliverLate()
    const everything = { disk: this.#disk }
    const { events } = readSettled(JOURNAL, CURSOR_START, Number.MAX_SAFE_INTEGER, everything)
    return auditSimulated({
      number: this.#number,
      requests: this.#requests,
      settled: events,
      charges: await readCharges(this.#database.db, this.#tenantId),
      mayLosePower: this.death !== 'kill',
      syncingMs: (fromMs, toMs) => this.#syncingMs(fromMs, toMs),
    })
  }

  /** An fsync takes its time; one under way when its life ends is over then, for the audit. */
  #sync(done: () => void): void {
    const sync = { startMs: this.#clock.nowMs(), endMs: Infinity }
    this.#syncs.push(sync)
    this.#clock.setTimer(this.#random.integer(FSYNC_MS_MAX), () => {
      sync.endMs = this.#clock.nowMs()
      done()
    })
  }

  #syncingMs(fromMs: number, toMs: number): number {
    let sum = 0
    let reachedMs = fromMs
    for (const { startMs, endMs } of this.#syncs) {
      const until = Math.min(endMs, toMs)
      sum += Math.max(0, until - Math.max(startMs, reachedMs))
      reachedMs = Math.max(reachedMs, until)
    }
    return sum
  }

  #drawFate(life: number): Fate {
    const random = this.#random
    const callsMax = life === 0 || random.fraction() < 0.5 ? FIRST_CALLS_MAX : NEXT_CALLS_MAX
    const fails = this.death === 'fsync_error'
    return {
      callsLeft: fails ? Infinity : 1 + random.integer(callsMax),
      share: random.fraction() < 0.5 ? random.fraction() : 0,
      fsyncsLeft: fails ? 1 + random.integer(12) : Infinity,
    }
  }

  #losesPower(): boolean {
    return this.death !== 'kill' && this.#random.fraction() < 0.7
  }
}
