/**
 * The cases in which real processes die: `lanes` clusters on one PostgreSQL, each with a database
 * of its own, take the cases in turn. Within a case requests run, somebody is killed, the requests
 * end as they may, and what died starts again; the audit comes after all cases, when everything
 * that was on its way has arrived.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { type Database, openDatabase } from '../../db/client.ts'
import { rollUpUsage } from '../../db/queries/usage-rollups.ts'
import { findPostgres, startPostgres } from '../../db/test/support/postgres-server.ts'
import { CURSOR_START, readSettled } from '../../gpu-host/journal/settled-reader.ts'
import { type Audit, type AuditFacts, audit, isDrained, joinAudits } from './audit.ts'
import { readCharges } from './charges.ts'
import { ask, type Delivery } from './client.ts'
import { Cluster, HOSTS } from './cluster.ts'
import { type CrashPlan, planCrash, REQUESTS_MAX, VICTIMS, type Victim } from './crash-plan.ts'
import type { CrashingProcess } from './crashing-process.ts'

export interface RealOptions {
  readonly seed: number
  /** Numbers of the cases to run. */
  readonly numbers: readonly number[]
  readonly lanes: number
  readonly note: (text: string) => void
}

export interface RealOutcome extends Audit {
  readonly cases: Readonly<Record<Victim, number>>
  /** Cases whose point was not reached: the victim was killed when their requests had ended. */
  readonly late: number
}

/** A point that is not reached by then is not reached at all: ingest follows within 200 ms. */
const POINT_MS_MAX = 1500
const CASES_PER_NOTE = 20
const DRAIN_MS_MAX = 120_000
/** Between two looks at the ledger; requests that a dying edge left end within it. */
const SETTLE_MS = 500

export async function runRealCases(options: RealOptions): Promise<RealOutcome> {
  const binaries = findPostgres()
  if (binaries === null) throw new Error('the real cases need initdb and postgres in PATH')
  const server = await startPostgres(binaries)
  const lanes: Lane[] = []
  try {
    for (let i = 0; i < Math.min(options.lanes, options.numbers.length); i++) {
      const name = `lane_${i}`
      await server.create(name)
      const url = server.urlOf(name)
      const cluster = await Cluster.start(url, REQUESTS_MAX)
      lanes.push(new Lane(cluster, await openDatabase(url), options))
    }
    const queue = [...options.numbers]
    await Promise.all(lanes.map((lane) => lane.takeCases(queue)))
    // Not before every lane is done: one lane's database process takes the whole server down.
    return (await Promise.all(lanes.map((lane) => lane.audit()))).reduce(joinOutcomes)
  } finally {
    await Promise.all(lanes.map((lane) => lane.stop()))
    await server.stop()
  }
}

/** A cluster and the cases that it took. */
class Lane {
  readonly #cluster: Cluster
  readonly #database: Database
  readonly #options: RealOptions
  readonly #deliveries: Delivery[] = []
  readonly #cases = { host: 0, edge: 0, writer: 0, database: 0 }
  #late = 0

  constructor(cluster: Cluster, database: Database, options: RealOptions) {
    this.#cluster = cluster
    this.#database = database
    this.#options = options
  }

  /** Until `queue` is empty. */
  async takeCases(queue: number[]): Promise<void> {
    const { seed, note } = this.#options
    for (let number = queue.shift(); number !== undefined; number = queue.shift()) {
      const plan = planCrash(seed, number, HOSTS)
      this.#cases[plan.victim] += 1
      const ran = VICTIMS.reduce((sum, victim) => sum + this.#cases[victim], 0)
      const { deliveries, isReached } = await runCase(this.#cluster, plan, 'x'.repeat(ran))
      this.#deliveries.push(...deliveries)
      if (!isReached) this.#late += 1
      await this.#cluster.heal()
      if (queue.length % CASES_PER_NOTE === 1) note(`fault: ${queue.length} real cases to go`)
    }
  }

  /** After everything that is on its way has arrived. */
  async audit(): Promise<RealOutcome> {
    // Two attempts may have been stored at the same moment.
    await rollUpUsage(this.#database.db)
    const deadline = performance.now() + DRAIN_MS_MAX
    for (let drained = 0; drained < 2 && performance.now() < deadline; ) {
      drained = isDrained(await this.#facts()) ? drained + 1 : 0
      await sleep(SETTLE_MS)
    }
    return { ...audit(await this.#facts()), cases: this.#cases, late: this.#late }
  }

  async stop(): Promise<void> {
    await this.#database.close()
    await this.#cluster.stop()
  }

  async #facts(): Promise<AuditFacts> {
    return {
      settled: this.#cluster.journals.flatMap((directory) => [
        ...readSettled(directory, CURSOR_START, Number.MAX_SAFE_INTEGER).events,
      ]),
      charges: await readCharges(this.#database.db, this.#cluster.tenant.id),
      deliveries: this.#deliveries,
      handedOver: (requestId) => this.#cluster.handedOver(requestId),
      victimOf: (number) => planCrash(this.#options.seed, number, HOSTS).victim,
    }
  }
}

async function runCase(
  cluster: Cluster,
  plan: CrashPlan,
  prompt: string,
): Promise<{ deliveries: Delivery[]; isReached: boolean }> {
  const { trigger, victim } = plan
  const dying = victim === 'host' ? (cluster.hosts[plan.host] ?? cluster.edge) : cluster.edge
  const chunks = Promise.withResolvers<void>()
  let chunkCount = 0
  const onChunk = (): void => {
    chunkCount += 1
    if (trigger.at === 'chunk' && chunkCount === trigger.nth) chunks.resolve()
  }
  const reached = reachTrigger(dying, plan, chunks.promise)
  const asked = Promise.all(
    plan.requests.map((request, i) => {
      const key = cluster.tenant.keys[i]
      if (key === undefined) throw new Error('a plan has more requests than there are keys')
      return ask({ url: cluster.url, key, prompt }, plan.number, request, onChunk)
    }),
  )
  const isReached = await Promise.race([reached.then(() => true), isPast(asked)])
  dying.disarm()
  // PostgreSQL replaces the process that it lost; every other victim must be dead by now.
  if (victim !== 'database') await dying.kill()
  return { deliveries: await asked, isReached }
}

function reachTrigger(
  dying: CrashingProcess,
  { trigger }: CrashPlan,
  chunks: Promise<void>,
): Promise<unknown> {
  if (trigger.at === 'time') return sleep(trigger.ms)
  if (trigger.at === 'chunk') return chunks
  return dying.arm(trigger)
}

/** Resolves when the requests have ended and what they leave to be shipped has had its time. */
async function isPast(asked: Promise<unknown>): Promise<false> {
  await asked
  await sleep(POINT_MS_MAX)
  return false
}

function joinOutcomes(a: RealOutcome, b: RealOutcome): RealOutcome {
  const cases = { ...a.cases }
  for (const victim of VICTIMS) cases[victim] += b.cases[victim]
  return { ...joinAudits(a, b), cases, late: a.late + b.late }
}
