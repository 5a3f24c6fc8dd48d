/**
 * The ledger at size, on a PostgreSQL with its settings as shipped: writers store usage as edges
 * do while roll-ups run beside them; then one tenant's month is summed against the clock, and every
 * sum is compared with a recount.
 */
import { setTimeout } from 'node:timers/promises'
import { sql } from 'drizzle-orm'
import { billingPeriodOf, GRACE_MS } from '../billing-period.ts'
import { openDatabase } from '../client.ts'
import type { Db } from '../database.ts'
import { isOutage } from '../errors.ts'
import { upsertBaseModel } from '../queries/base-models.ts'
import { listInvoiceLines } from '../queries/invoice-lines.ts'
import { createInvoice, finalizeInvoice } from '../queries/invoices.ts'
import { addPrice } from '../queries/prices.ts'
import { recordUsageEvents } from '../queries/usage.ts'
import { rollUpUsage } from '../queries/usage-rollups.ts'
import { type UsageGroup, usageTotals } from '../queries/usage-totals.ts'
import { prices } from '../schema/prices.ts'
import { tenants } from '../schema/tenants.ts'
import { findPostgres, startPostgres } from '../test/support/postgres-server.ts'
import type { UsageEvent } from '../usage-event.ts'
import { recountUsage } from './recount.ts'
import { BASE_MODELS, BIG_TENANT, SOAK_MONTH, sampleUsage } from './sample-usage.ts'

export interface LedgerSoakOptions {
  readonly events: number
  readonly seed: number
  readonly note: (text: string) => void
}

const WRITERS = 8
const BATCH = 500
/** One batch in so many is sent twice, as a host does that missed the acknowledgement. */
const COPY_EVERY = 20
const ROLL_UP_EVERY_MS = 1000
const RETRY_MS = 1000
const TIMES = 9
const ENTRIES_PER_PAGE = 200_000

/** What an invoice tells apart. */
const INVOICE_LINES: readonly UsageGroup[] = ['model', 'modelId', 'baseModel', 'priceId']

/** Throws when there is no PostgreSQL to start. */
export async function soakLedger({ events, seed, note }: LedgerSoakOptions) {
  const binaries = findPostgres()
  if (binaries === null) throw new Error('no initdb and postgres on this machine or from npm')
  const server = await startPostgres(binaries, { isDurable: true })
  const database = await openDatabase(server.url)
  try {
    const { db } = database
    await database.migrate()
    await db.insert(tenants).values({ id: BIG_TENANT, name: BIG_TENANT })
    await setPrices(db)
    const ingest = await writeAll(db, { events, seed, note })
    note('summing')
    await untilAnswered(() => rollUpUsage(db))
    const month = await untilAnswered(() => timeMonth(db))
    note('recounting')
    const { counted, differences } = await untilAnswered(() => compare(db))
    const [size] = (
      await db.execute<{ bytes: string; version: string }>(sql`
        select pg_database_size(current_database())::text as bytes,
          current_setting('server_version') as version`)
    ).rows
    return {
      postgres: { version: size?.version ?? '', fsync: true, bytes: Number(size?.bytes) },
      seed,
      ingest,
      month,
      recount: { events: counted, differences },
      // Everything sent is stored once, and every sum is the recount's.
      isExact: counted === ingest.events && differences === 0 && month.invoice_equals_sums,
    }
  } finally {
    await database.close()
    await server.stop()
  }
}

async function setPrices(db: Db): Promise<void> {
  for (const [i, name] of BASE_MODELS.entries()) {
    await upsertBaseModel(db, { name, digest: `sha256:${'b'.repeat(64)}` })
    const promptPusd = 70_001n + BigInt(i)
    await addPrice(db, {
      baseModel: name,
      promptPusd,
      cachedPromptPusd: promptPusd / 3n,
      completionPusd: 411_113n,
    })
  }
}

/** As a host does with what is not acknowledged: a busy machine may look like one that is away. */
async function untilAnswered<T>(work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work()
    } catch (error) {
      if (!isOutage(error)) throw error
      await setTimeout(RETRY_MS)
    }
  }
}

/** Eight writers and a roller, until all events are stored. */
async function writeAll(db: Db, { events, seed, note }: LedgerSoakOptions) {
  const usage = sampleUsage({ seed, events, prices: await db.select().from(prices) })
  const begin = performance.now()
  let taken = 0
  let copies = 0
  let batches = 0
  const takeBatch = (): UsageEvent[] => {
    const batch: UsageEvent[] = []
    while (batch.length < BATCH && taken < events) {
      const { value } = usage.next()
      if (value) batch.push(value)
      taken += 1
    }
    return batch
  }
  const write = async (): Promise<void> => {
    for (let batch = takeBatch(); batch.length > 0; batch = takeBatch()) {
      batches += 1
      const isCopied = batches % COPY_EVERY === 0
      if (batches % 200 === 0) {
        const perSecond = (taken / (performance.now() - begin)) * 1000
        note(`${taken} of ${events} events, ${Math.round(perSecond)}/s`)
      }
      await untilAnswered(() => recordUsageEvents(db, batch))
      if (!isCopied) continue
      await untilAnswered(() => recordUsageEvents(db, batch.toReversed()))
      copies += batch.length
    }
  }
  const rollUps = { runs: 0, entries: 0, longest_ms: 0 }
  const done = Promise.all(Array.from({ length: WRITERS }, write))
  let isWriting = true
  const roll = async (): Promise<void> => {
    while (isWriting) {
      const since = performance.now()
      const { entries } = await untilAnswered(() => rollUpUsage(db))
      rollUps.runs += 1
      rollUps.entries += entries
      const tookMs = performance.now() - since
      rollUps.longest_ms = Math.max(rollUps.longest_ms, Math.round(tookMs))
      await setTimeout(ROLL_UP_EVERY_MS)
    }
  }
  const rolled = roll()
  await done.finally(() => {
    isWriting = false
  })
  const seconds = (performance.now() - begin) / 1000
  await rolled
  return {
    events,
    copies,
    writers: WRITERS,
    batch: BATCH,
    seconds: Number(seconds.toFixed(1)),
    events_per_s: Math.round((events + copies) / seconds),
    roll_ups: rollUps,
  }
}

/** The big tenant's month: its sums, the lines of its draft, and the final invoice. */
async function timeMonth(db: Db) {
  const tenantId = BIG_TENANT
  const period = billingPeriodOf(SOAK_MONTH.start)
  const query = { tenantId, ...SOAK_MONTH, groupBy: INVOICE_LINES }
  const sums = await timed(TIMES, () => usageTotals(db, query))
  const requests = sums.value.reduce((sum, line) => sum + line.requests, 0)
  const { invoice } = await createInvoice(db, { tenantId, period })
  const draft = await timed(TIMES, () => listInvoiceLines(db, invoice))
  const now = new Date(SOAK_MONTH.end.getTime() + GRACE_MS)
  const final = await timed(1, () => finalizeInvoice(db, { tenantId, id: invoice.id, now }))
  const owed = sums.value.reduce((sum, line) => sum + line.costPusd, 0n)
  const isExact = 'invoice' in final.value && final.value.invoice.unbilledPusd === owed
  return {
    requests,
    sum_ms: sums.ms,
    draft_lines: draft.value.length,
    draft_ms: draft.ms,
    finalize_ms: final.ms.median,
    invoice_equals_sums: isExact,
  }
}

interface Timed<T> {
  readonly value: T
  readonly ms: { readonly median: number; readonly max: number }
}

async function timed<T>(times: number, work: () => Promise<T>): Promise<Timed<T>> {
  const ms: number[] = []
  for (;;) {
    const since = performance.now()
    const value = await work()
    ms.push(Number((performance.now() - since).toFixed(1)))
    if (ms.length < times) continue
    ms.sort((a, b) => a - b)
    return { value, ms: { median: ms[Math.floor(times / 2)] ?? 0, max: ms.at(-1) ?? 0 } }
  }
}

/** Every sum of usage totals, and each tenant's account, against the recount. */
async function compare(db: Db): Promise<{ counted: number; differences: number }> {
  const { events, sums } = await recountUsage(db)
  const totals = await usageTotals(db, {
    tenantId: null,
    ...SOAK_MONTH,
    groupBy: ['tenantId', 'modelId', 'keyId'],
  })
  let differences = 0
  const owed = new Map<string, bigint>()
  for (const total of totals) {
    const key = `${total.tenantId} ${total.modelId} ${total.keyId}`
    const expected = sums.get(key)
    sums.delete(key)
    const isEqual =
      expected !== undefined &&
      expected.requests === total.requests &&
      expected.promptTokens === total.promptTokens &&
      expected.cachedPromptTokens === total.cachedPromptTokens &&
      expected.completionTokens === total.completionTokens &&
      expected.gpuUs === total.gpuUs &&
      expected.costPusd === total.costPusd
    if (!isEqual) differences += 1
    const account = `unbilled/${total.tenantId}`
    owed.set(account, (owed.get(account) ?? 0n) + (expected?.costPusd ?? 0n))
  }
  const unbilled = await sumUnbilled(db)
  for (const [account, pusd] of unbilled) if (owed.get(account) !== pusd) differences += 1
  return { counted: events, differences: differences + sums.size }
}

/** What usage put on each tenant's account, in pages by id. */
async function sumUnbilled(db: Db): Promise<Map<string, bigint>> {
  const sums = new Map<string, bigint>()
  for (let after: string | null = ''; after !== null; ) {
    const { rows }: { rows: readonly { account: string; pusd: string; last: string }[] } =
      await db.execute<{ account: string; pusd: string; last: string }>(sql`
        with page as materialized (
          select * from ledger_entries where id > ${after} order by id limit ${ENTRIES_PER_PAGE}
        )
        select account, sum(pusd)::text as pusd, (select max(id) from page) as last from (
          select kind, debit_account as account, amount_pusd as pusd from page
          union all select kind, credit_account, -amount_pusd from page) as side
        where kind in ('usage', 'usage_reversal') and account like 'unbilled/%' group by account`)
    for (const { account, pusd } of rows) {
      sums.set(account, (sums.get(account) ?? 0n) + BigInt(pusd))
    }
    after = rows[0]?.last ?? null
  }
  return sums
}
