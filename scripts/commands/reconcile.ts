/**
 * `nozzle reconcile`: proves that hosts' journals, usage events, ledger entries, roll-ups and
 * invoices say the same to the token and the pico-USD, or prints each difference.
 */
import { setTimeout as wait } from 'node:timers/promises'
import type { TokenPrices } from '#db/money.ts'
import { callEdge } from '../lib/api-client.ts'
import { callerPath } from '../lib/caller-path.ts'
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import { locateDataDir } from '../lib/data-dir.ts'
import { bookDifferences, bookedEvents, bookTotals, priceList } from '../lib/edge-replies.ts'
import { EDGE_FLAGS, type EdgeTarget, locateEdge } from '../lib/edge-target.ts'
import { readPeriod } from '../lib/utc-time.ts'
import { BookComparison, type Period, type TenantSums } from '../reconcile/compare-books.ts'
import { type JournalBook, readJournal } from '../reconcile/journal-dump.ts'
import { reconcileToText, toReconcileReport } from '../reconcile/reconcile-report.ts'
import { hostJournals } from '../up/host-plan.ts'

export const reconcileCommand: Command = {
  name: 'reconcile',
  summary: 'prove that journals, ledger and invoices agree',
  positionals: [],
  flags: {
    journal: {
      type: 'string',
      isMultiple: true,
      value: 'dir',
      help: "a host's journal (its data directory has host/journal); may be given many times",
    },
    start: { type: 'string', value: 'time', help: 'from (UTC; default: start of this month)' },
    end: { type: 'string', value: 'time', help: 'to, excluded (default: now)' },
    'wait-s': { type: 'string', value: 's', help: 'look again after this, if books differ (3)' },
    ...EDGE_FLAGS,
  },
  details:
    'Without --journal: the database, and the journals of all hosts of a pool that runs here. An event\n' +
    'counts where its request id was made. Events that a journal no longer holds, and those of\n' +
    'hosts without a journal here, are counted as unproven. A damaged journal is a difference.\n' +
    'Exits with 8 when the books differ, after printing each difference, and with 3 where no\n' +
    'journal is. Needs the operator key.',
  examples: [
    'nozzle reconcile',
    'nozzle reconcile --journal .nozzle/host/journal --start 2026-11-01 --end 2026-12-01 --json',
  ],
  async run(call) {
    const target = locateEdge(call)
    const period = readPeriod(call.flags)
    const waitMs = (call.flags.number('wait-s', 0, 600) ?? 3) * 1000
    let report = await compareOnce(call, target, period)
    if (!report.agree && waitMs > 0) {
      call.output.note('the books differ; usage may be on its way, so they are compared once more')
      await wait(waitMs, undefined, { signal: call.signal })
      report = await compareOnce(call, target, period)
    }
    call.output.data(report, reconcileToText(report))
    if (report.agree) return
    const { length } = report.differences
    throw new CliError(
      'books_differ',
      `the books differ in ${length} place${length > 1 ? 's' : ''}`,
    )
  },
}

async function compareOnce(call: CommandCall, target: EdgeTarget, period: Period) {
  // Journals first: whatever is in them by now must be in the ledger, or on its way.
  const journals: JournalBook[] = []
  for (const directory of journalDirectories(call)) {
    journals.push(await readJournal(call, directory))
  }
  const get = { method: 'GET', signal: call.signal } as const
  const prices = await callEdge(target, { ...get, path: '/v1/prices' }, priceList)
  const comparison = new BookComparison(
    period,
    journals,
    new Map(prices.data.map((price): [string, TokenPrices] => [price.id, toTokenPrices(price)])),
  )
  const query = {
    start: new Date(period.startMs).toISOString(),
    end: new Date(period.endMs).toISOString(),
  }
  const pathOf = (book: string, more: Readonly<Record<string, string>> = {}): string =>
    `/v1/pool/books/${book}?${new URLSearchParams({ ...query, ...more })}`
  for (let after: string | null = null; ; ) {
    const path = pathOf('events', after === null ? {} : { after })
    const page = await callEdge(target, { ...get, path }, bookedEvents)
    for (const row of page.data) comparison.addBooked(row)
    if (page.next === null) break
    after = page.next
  }
  const totals = await callEdge(target, { ...get, path: pathOf('totals') }, bookTotals)
  comparison.finish(new Map(totals.data.map((row) => [row.tenant_id, toSums(row)])))
  const own = await callEdge(target, { ...get, path: pathOf('differences') }, bookDifferences)
  return toReconcileReport({ period, journals, comparison, own: own.data })
}

/** Those that are named; else those of the pool that runs here, where it is the one asked. */
function journalDirectories(call: CommandCall): readonly string[] {
  const { flags, env, projectRoot } = call
  const named = flags.texts('journal').map((path) => callerPath(call, path))
  if (named.length > 0 || flags.text('edge-url') || env.NOZZLE_EDGE_URL) return named
  return hostJournals(locateDataDir(env, projectRoot))
}

function toTokenPrices(price: (typeof priceList)['_output']['data'][number]): TokenPrices {
  return {
    promptPusd: BigInt(price.prompt_pusd),
    cachedPromptPusd: BigInt(price.cached_prompt_pusd),
    completionPusd: BigInt(price.completion_pusd),
  }
}

function toSums(row: (typeof bookTotals)['_output']['data'][number]): TenantSums {
  return {
    requests: BigInt(row.requests),
    prompt_tokens: BigInt(row.prompt_tokens),
    cached_prompt_tokens: BigInt(row.cached_prompt_tokens),
    completion_tokens: BigInt(row.completion_tokens),
    gpu_us: BigInt(row.gpu_us),
    swap_us: BigInt(row.swap_us),
    cost_pusd: BigInt(row.cost_pusd),
  }
}
