/**
 * A real pool, its host's real journal, and books that are falsified one by one: each lie must be
 * found, named and told apart.
 */
import {
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { billingPeriodOf } from '#db/billing-period.ts'
import { createId } from '#db/ids.ts'
import { createInvoice, finalizeInvoice } from '#db/queries/invoices.ts'
import { recordUsageEvents } from '#db/queries/usage.ts'
import { rollUpUsage } from '#db/queries/usage-rollups.ts'
import type { UsageEvent } from '#protocol'
import type { TestTenant } from '../../edge/test/support/pool-client.ts'
import { TestPool, until } from '../../edge/test/support/test-pool.ts'
import { CHAIN_START, encodeRecords } from '../../gpu-host/journal/frame.ts'
import { scanSegment, segmentPath } from '../../gpu-host/journal/segment.ts'
import { runAgainst } from '../test/cli-run.ts'

/** Whole hours, so that totals come out of roll-ups. */
const HOUR = Math.floor(Date.now() / 3_600_000)
const at = (hour: number): string => new Date(hour * 3_600_000).toISOString()
const PERIOD = ['--start', at(HOUR - 1), '--end', at(HOUR + 2)]
const directory = mkdtempSync(join(tmpdir(), 'nozzle-reconcile-'))
const journal = join(directory, 'journal')
let pool: TestPool
let tenant: TestTenant
/** Of the host, in the order in which they ended. */
let events: UsageEvent[] = []
beforeAll(async () => {
  pool = await TestPool.start()
  const { journalDirectory } = await pool.addHost()
  tenant = await pool.addTenant()
  await pool.deploy(tenant, 'bot', 'weights')
  const model = `${tenant.name}/bot`
  for (const content of ['one', 'two and more', 'three', 'four']) {
    const messages = [{ role: 'user' as const, content }]
    await pool.sdk(tenant.key).chat.completions.create({ model, messages, max_tokens: 5 })
  }
  await until(async () => {
    const { data } = await pool.admin<{ data: unknown[] }>(
      'GET',
      `/v1/tenants/${tenant.name}/usage/events`,
    )
    if (data.length < 4) throw new Error('events are on their way')
  })
  cpSync(journalDirectory, journal, { recursive: true })
  events = readEvents(journal)
  // A request that was tried again elsewhere: two attempts, of which the second is charged.
  const [first] = events
  if (first === undefined) throw new Error('the journal holds no event')
  const request_id = createId('req')
  const retried = { ...first, request_id, host_id: 'hst_elsewhere' }
  const { db } = pool.database
  await recordUsageEvents(db, [retried, { ...retried, attempt: 2, completion_tokens: 3 }])
  const nobody = { source: 'edge' as const, host_id: 'edge', epoch: 0 }
  await recordUsageEvents(db, [{ ...first, ...nobody, ...NO_USE, request_id: createId('req') }])
  await rollUpUsage(db)
  await rollUpUsage(db)
  await invoiceOctober(retried)
})
afterAll(async () => {
  await pool.stop()
  rmSync(directory, { recursive: true })
})

const NO_USE = { prompt_tokens: 0, cached_prompt_tokens: 0, completion_tokens: 0, gpu_us: 0 }

/** Of odd token counts, so that lines are rounded. */
async function invoiceOctober(like: UsageEvent): Promise<void> {
  const { db } = pool.database
  const days = Array.from({ length: 12 }, (_, day) => ({
    ...like,
    request_id: createId('req', Date.UTC(2026, 9, 1 + day, 5)),
    prompt_tokens: 1001 + day,
  }))
  await recordUsageEvents(db, days)
  await rollUpUsage(db)
  const period = billingPeriodOf(new Date(Date.UTC(2026, 9, 1)))
  const { invoice } = await createInvoice(db, { tenantId: tenant.id, period })
  const wish = { tenantId: tenant.id, id: invoice.id, now: new Date(), graceMs: 0 }
  expect(await finalizeInvoice(db, wish)).toMatchObject({ kind: 'finalized' })
}

/** Every settled event, and what `change` makes of it written back: null = not written. */
function readEvents(
  of: string,
  change: (event: UsageEvent) => UsageEvent | null = (event) => event,
): UsageEvent[] {
  const found: UsageEvent[] = []
  for (const name of readdirSync(of).filter((file) => file.endsWith('.jsonl'))) {
    const path = join(of, name)
    const records = scanSegment(readFileSync(path)).records.map(({ record }) => {
      if (record.t !== 'settled' || record.event === null) return record
      found.push(record.event)
      return { ...record, event: change(record.event) }
    })
    writeFileSync(path, encodeRecords(records, CHAIN_START).bytes)
  }
  return found
}

/** A copy of the journal with other events. */
function forge(change: (event: UsageEvent, index: number) => UsageEvent | null): string {
  const copy = mkdtempSync(join(directory, 'forged-'))
  cpSync(journal, copy, { recursive: true })
  let index = 0
  readEvents(copy, (event) => change(event, index++))
  return copy
}

const run = (...flags: string[]) =>
  runAgainst(pool, ['reconcile', '--wait-s', '0', ...PERIOD, ...flags])
/** A month that is over and has its invoice; flags given later count. */
const OCTOBER = ['--start', '2026-10-01', '--end', '2026-11-01']

const reply = z.object({
  agree: z.boolean(),
  events: z.int(),
  proven_by_journal: z.int(),
  differing_from_journal: z.int(),
  no_longer_in_journal: z.int(),
  without_journal: z.int(),
  written_by_edge: z.int(),
  warnings: z.array(z.string()),
  differences: z.array(
    z.object({
      kind: z.string(),
      tenant_id: z.string().nullable(),
      subject: z.string(),
      field: z.string().nullable(),
      books: z.record(z.string(), z.string().nullable()),
    }),
  ),
})

const reconcile = (...directories: string[]) =>
  reconcileWith(directories.flatMap((each) => ['--journal', each]))

async function reconcileWith(flags: readonly string[]) {
  const { exitCode, stdout, stderr } = await run('--json', ...flags)
  const report = reply.parse(JSON.parse(stdout))
  expect(exitCode, stderr).toBe(report.agree ? 0 : 8)
  expect(report.agree).toBe(report.differences.length === 0)
  const proven = report.proven_by_journal + report.differing_from_journal
  const others = report.no_longer_in_journal + report.without_journal + report.written_by_edge
  expect(proven + others).toBe(report.events)
  const kinds = report.differences.map(({ kind, field }) => (field ? `${kind} ${field}` : kind))
  return { ...report, kinds }
}

/** The books with a lie in them, which the database itself would refuse. Undone afterwards. */
async function falsified<T>(statement: string, look: () => Promise<T>): Promise<T> {
  const { db } = pool.database
  await db.execute(sql`begin`)
  try {
    await db.execute(sql`set local session_replication_role = replica`)
    await db.execute(sql.raw(statement))
    return await look()
  } finally {
    await db.execute(sql`rollback`)
  }
}

describe('nozzle reconcile', () => {
  it('finds that untouched books agree', async () => {
    expect(await reconcile(journal)).toMatchObject({
      agree: true,
      events: 7,
      proven_by_journal: 4,
      no_longer_in_journal: 0,
      without_journal: 2,
      written_by_edge: 1,
      warnings: [],
    })
    const { stdout } = await run()
    expect(stdout).toContain('7 events in the ledger: 0 the same in a journal')
    expect(stdout).toContain('6 of hosts whose journal was not given, 1 written by the edge')
    expect(stdout).toContain('The books agree; 6 of 7 events are not proven by a journal.')
  })

  const event = (index: number): string => `'${events[index]?.request_id}'`
  const cases: [string, () => string, string[]][] = [
    [
      'a token more in an event',
      () => `update usage_events set completion_tokens = completion_tokens + 1
        where request_id = ${event(1)}`,
      [
        'event_differs completion_tokens',
        'charge_wrong amount_pusd',
        'total_differs completion_tokens',
        'rollup_wrong completion_tokens',
      ],
    ],
    [
      'an event under another tenant',
      () => `update usage_events set tenant_id = 'ten_other' where request_id = ${event(1)}`,
      ['event_differs tenant_id', 'charge_wrong tenant', 'charge_wrong debit'],
    ],
    [
      'an event gone',
      () => `delete from usage_events where request_id = ${event(2)}`,
      ['event_lost', 'event_missing', 'total_differs requests', 'rollup_wrong requests'],
    ],
    [
      'a charge gone',
      () => `delete from ledger_entries where request_id = ${event(0)}`,
      ['charge_missing', 'rollup_wrong requests'],
    ],
    [
      'a pico-USD more charged',
      () =>
        `update ledger_entries set amount_pusd = amount_pusd + 1 where request_id = ${event(0)}`,
      ['charge_wrong amount_pusd', 'rollup_wrong amount_pusd'],
    ],
    [
      'a request charged twice',
      () => `insert into ledger_entries (id, kind, debit_account, credit_account, amount_pusd,
          tenant_id, request_id, attempt, price_id, price_basis, occurred_at, ingest_xid)
        select id || '2', kind, debit_account, credit_account, amount_pusd, tenant_id, request_id,
          attempt, price_id, price_basis, occurred_at, ingest_xid
        from ledger_entries where request_id = ${event(0)}`,
      ['event_missing', 'rollup_wrong requests'],
    ],
    [
      'a charge to the wrong account, in the wrong month',
      () => `update ledger_entries set credit_account = 'revenue/nobody',
        occurred_at = occurred_at - interval '1 minute' where request_id = ${event(0)}`,
      ['charge_wrong credit', 'charge_wrong occurred_at'],
    ],
    [
      'a charge taken back for no reason',
      () => `insert into ledger_entries (id, kind, debit_account, credit_account, amount_pusd,
          tenant_id, request_id, attempt, price_id, price_basis, occurred_at, ingest_xid)
        select id || '_reversal', 'usage_reversal', credit_account, debit_account, amount_pusd,
          tenant_id, request_id, attempt, price_id, price_basis, occurred_at, ingest_xid
        from ledger_entries where request_id = ${event(0)}`,
      ['reversal_unfounded', 'rollup_wrong requests'],
    ],
    [
      'both attempts of a request charged',
      () => `delete from ledger_entries where kind = 'usage_reversal'`,
      ['reversal_missing', 'rollup_wrong requests'],
    ],
    [
      'less taken back than was charged',
      () => `update ledger_entries set amount_pusd = amount_pusd - 1 where kind = 'usage_reversal'`,
      ['reversal_wrong amount_pusd', 'rollup_wrong amount_pusd'],
    ],
    [
      'a price changed after the fact',
      () => `update prices set completion_pusd = completion_pusd + 1`,
      ['charge_wrong amount_pusd', 'total_differs cost_pusd'],
    ],
    [
      'a roll-up that counts a token more',
      () => `update usage_rollups set prompt_tokens = prompt_tokens + 1`,
      ['rollup_wrong prompt_tokens'],
    ],
    [
      'a roll-up gone',
      () => `delete from usage_rollups`,
      ['rollup_wrong requests', 'rollup_wrong amount_pusd'],
    ],
  ]
  it.each(cases)('finds %s', async (_name, statement, expected) => {
    const isOfJournal = expected.some((kind) => /^event_(differs|lost)/.test(kind))
    const look = () => (isOfJournal ? reconcile(journal) : reconcile())
    const { kinds } = await falsified(statement(), look)
    expect(kinds).toEqual(expect.arrayContaining(expected))
  })

  it('finds that an invoiced month agrees', async () => {
    expect(await reconcileWith(OCTOBER)).toMatchObject({ agree: true, events: 12 })
  })

  it.each([
    [
      'a token more on a line',
      `update invoice_lines set quantity = quantity + 1 where kind = 'prompt'`,
      ['invoice_line_wrong exact_pusd', 'invoiced_wrong prompt_tokens'],
    ],
    [
      'a cent more billed for a line',
      `update invoice_lines set billed_pusd = billed_pusd + 10000000000`,
      ['invoice_line_wrong billed_pusd', 'invoice_wrong billed_pusd'],
    ],
    [
      'another price on a line',
      `update invoice_lines set unit_price_pusd = unit_price_pusd + 1`,
      ['invoice_line_wrong unit_price_pusd', 'invoice_line_wrong exact_pusd'],
    ],
    [
      'a line gone',
      `delete from invoice_lines where kind = 'completion'`,
      ['invoice_wrong line_count', 'invoice_wrong exact_pusd', 'invoiced_wrong completion_tokens'],
    ],
    [
      'a pico-USD more on an invoice',
      `update invoices set exact_pusd = exact_pusd + 1, unbilled_pusd = unbilled_pusd + 1`,
      ['invoice_wrong exact_pusd', 'invoice_wrong unbilled_pusd', 'invoice_wrong rounding_pusd'],
    ],
    [
      'an invoice that the ledger never moved',
      `delete from ledger_entries where kind = 'invoice'`,
      ['invoice_wrong unbilled_pusd'],
    ],
    [
      'a rounding that went the wrong way',
      `update ledger_entries set debit_account = credit_account, credit_account = debit_account
        where kind = 'rounding'`,
      ['invoice_wrong rounding_pusd'],
    ],
    [
      'usage that an invoice took twice',
      `update usage_rollups set invoiced_prompt_tokens = 0 where hour < '2026-10-05'`,
      ['invoiced_wrong prompt_tokens'],
    ],
    [
      'a late event in an invoiced month that no roll-up holds',
      `update usage_rollups set completion_tokens = completion_tokens + 1,
        invoiced_completion_tokens = invoiced_completion_tokens + 1 where hour < '2026-10-02'`,
      ['rollup_wrong completion_tokens', 'invoiced_wrong completion_tokens'],
    ],
  ])('finds %s', async (_name, statement, expected) => {
    const { kinds } = await falsified(statement, () => reconcileWith(OCTOBER))
    expect(kinds).toEqual(expect.arrayContaining(expected))
  })

  it('finds an invoice that is gone, in the month in which it was finalized', async () => {
    const { kinds } = await falsified(`delete from invoices`, () => reconcile())
    expect(kinds).toContain('invoice_missing')
  })

  it('names the request and what each book says of it', async () => {
    const forged = forge((each, index) =>
      index === 1 ? { ...each, prompt_tokens: each.prompt_tokens + 7 } : each,
    )
    const [original] = events.slice(1)
    const { differences } = await reconcile(forged)
    expect(differences).toEqual([
      {
        kind: 'event_differs',
        tenant_id: tenant.id,
        subject: `${original?.request_id}/1`,
        field: 'prompt_tokens',
        books: {
          journal: String((original?.prompt_tokens ?? 0) + 7),
          ledger: String(original?.prompt_tokens),
        },
      },
    ])
  })

  it('finds an event that never reached the ledger', async () => {
    const forged = forge((each, index) =>
      index === 2 ? { ...each, request_id: createId('req') } : each,
    )
    expect((await reconcile(forged)).kinds.sort()).toEqual(['event_lost', 'journal_missing'])
  })

  it('finds an event that its journal should hold, but not one that it has given up', async () => {
    const inTheMiddle = forge((each, index) => (index === 2 ? null : each))
    expect((await reconcile(inTheMiddle)).kinds).toEqual(['journal_missing'])
    const theOldest = forge((each, index) => (index === 0 ? null : each))
    expect((await reconcile(theOldest)).kinds).toEqual(['journal_missing'])
    renameSync(segmentPath(theOldest, 0), segmentPath(theOldest, 1))
    expect(await reconcile(theOldest)).toMatchObject({ agree: true, no_longer_in_journal: 1 })
  })

  it('takes nothing for proved by a journal that holds nothing', async () => {
    const noEvents = forge(() => null)
    expect((await reconcile(noEvents)).kinds).toEqual(Array(4).fill('journal_missing'))
    renameSync(segmentPath(noEvents, 0), segmentPath(noEvents, 1))
    expect(await reconcile(noEvents)).toMatchObject({
      agree: true,
      no_longer_in_journal: 4,
      warnings: [expect.stringContaining('prove none of the 6 events')],
    })
    rmSync(segmentPath(noEvents, 1))
    expect((await reconcile(noEvents)).differences).toMatchObject([
      { kind: 'journal_damaged', subject: noEvents, books: { journal: 'it has no segment' } },
    ])
    rmSync(join(noEvents, 'epoch'))
    const nothing = await run('--journal', noEvents)
    expect(nothing).toMatchObject({ exitCode: 3, stdout: '' })
    expect(nothing.stderr).toContain(`no journal at ${noEvents}`)
  })

  it('names the damage of a journal, and what was set aside', async () => {
    const copy = forge((each) => each)
    const path = segmentPath(copy, 0)
    const bytes = readFileSync(path)
    const start = bytes.lastIndexOf('{"t":"settled"')
    writeFileSync(path, bytes.fill('#', start, start + 40))
    writeFileSync(join(copy, 'segment-0000000000.jsonl.damaged'), '')
    const { differences, warnings } = await reconcile(copy)
    expect(differences[0]).toMatchObject({
      kind: 'journal_damaged',
      subject: `${copy} segment 0`,
      field: expect.stringMatching(/^bytes \d+ to \d+$/),
      books: { journal: 'unreadable' },
    })
    expect(differences.map(({ kind }) => kind)).toContain('journal_missing')
    expect(warnings).toEqual([expect.stringContaining('segment-0000000000.jsonl.damaged')])
  })

  it('finds two journals that say different things of one attempt', async () => {
    const forged = forge((each) => ({ ...each, host_id: 'hst_other' }))
    expect((await reconcile(journal, forged)).kinds).toContain('journals_differ host_id')
    expect((await reconcile(journal, journal)).agree).toBe(true)
  })

  it('takes the journal of the pool that runs here, when it is the one asked', async () => {
    const data = mkdtempSync(join(directory, 'data-'))
    cpSync(journal, join(data, 'host', 'journal'), { recursive: true })
    const running = { edge_url: pool.url, base_model: 'fake-base', pid: process.pid }
    writeFileSync(join(data, 'running.json'), JSON.stringify(running))
    const argv = ['reconcile', ...PERIOD, '--json']
    const here = await runAgainst(pool, argv, pool.operatorKey, { NOZZLE_DATA_DIR: data })
    expect(JSON.parse(here.stdout)).toMatchObject({ agree: true, proven_by_journal: 4 })
    const elsewhere = { NOZZLE_DATA_DIR: data, NOZZLE_EDGE_URL: pool.url }
    const there = await runAgainst(pool, argv, pool.operatorKey, elsewhere)
    expect(JSON.parse(there.stdout)).toMatchObject({ agree: true, proven_by_journal: 0 })
  })

  it('prints differences as a table, and says what is wrong with its arguments', async () => {
    const forged = forge((each) => ({ ...each, swap_us: each.swap_us + 1 }))
    const table = await run('--journal', forged)
    expect(table.exitCode).toBe(8)
    expect(table.stdout).toMatch(/event_differs +req_\w+\/1 +swap_us +journal: \d+ {3}ledger: \d+/)
    expect(table.stderr).toContain('the books differ in 4 places')
    const one = await run(
      '--journal',
      forge((each, index) => (index === 2 ? null : each)),
    )
    expect(one.stderr).toMatch(/the books differ in 1 place$/m)
    const nowhere = await run('--journal', join(directory, 'nowhere'))
    expect(nowhere).toMatchObject({ exitCode: 3, stdout: '' })
  })
})
