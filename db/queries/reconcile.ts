/**
 * Where the database's own books disagree: usage events against ledger entries, ledger entries
 * against roll-ups, and those against final invoices. Each check reckons anew what the other book
 * says; none of them trusts a constraint or a trigger to have held. And the events themselves, page
 * by page, for whoever holds a host's journal against them.
 */
import { and, asc, eq, getTableColumns, gte, lt, sql } from 'drizzle-orm'
import { alias } from 'drizzle-orm/pg-core'
import type { Db } from '../database.ts'
import { ledgerEntries } from '../schema/ledger-entries.ts'
import { type UsageEventRow, usageEvents } from '../schema/usage-events.ts'
import { invoiceDifferences } from './reconcile-invoices.ts'
import type { UsagePosition } from './usage.ts'
import { countedEntries, LINE, ROLLUP_COUNTERS, ROLLUP_KEY } from './usage-rollups.ts'

export interface BookPeriod {
  /** Inclusive; by billing time. */
  readonly start: Date
  /** Exclusive. */
  readonly end: Date
}

/** What two books say of one thing; null = nothing at all. */
export interface BookDifference {
  kind: DifferenceKind
  tenantId: string | null
  /** `<request id>/<attempt>`, a ledger entry's id, or a roll-up's model and hour. */
  subject: string
  field: string | null
  books: Record<string, string | null>
}

/**
 * `charge_missing` = an event that nothing was charged for. `event_missing` = a charge of no event.
 * `charge_wrong` = a charge that its event's tokens and price do not make. `reversal_missing` = two
 * attempts of one request are charged. `reversal_unfounded` = a charge taken back though no later
 * attempt is. `reversal_wrong` = taken back otherwise than charged. `rollup_wrong` = a roll-up that
 * its entries do not sum to. `invoice_line_wrong` = not price × quantity, rounded once.
 * `invoice_wrong` = not the sum of its lines, or not what the ledger moved. `invoice_missing` = the
 * ledger moved an invoice that is not there. `invoiced_wrong` = lines of a model's month that are
 * not what its roll-ups say was taken.
 */
export type DifferenceKind =
  | 'charge_missing'
  | 'event_missing'
  | 'charge_wrong'
  | 'reversal_missing'
  | 'reversal_unfounded'
  | 'reversal_wrong'
  | 'rollup_wrong'
  | 'invoice_line_wrong'
  | 'invoice_wrong'
  | 'invoice_missing'
  | 'invoiced_wrong'

type DifferenceRow = Omit<BookDifference, 'books' | 'tenantId'> & {
  tenant_id: string | null
  books: Record<string, string | null>
}

/** The first `limit` of each check, in the order of their subjects. */
export async function listBookDifferences(
  db: Db,
  period: BookPeriod,
  limit: number,
): Promise<BookDifference[]> {
  const checks = [entryDifferences, rollupDifferences, invoiceDifferences].map((check) =>
    check(period, limit),
  )
  const found: BookDifference[] = []
  for (const check of checks) {
    const { rows } = await db.execute<DifferenceRow>(check)
    found.push(...rows.map(({ tenant_id, ...row }) => ({ ...row, tenantId: tenant_id })))
  }
  return found
}

const during = (time: string, { start, end }: BookPeriod) =>
  sql`${sql.raw(time)} >= ${start.toISOString()}::timestamptz
    and ${sql.raw(time)} < ${end.toISOString()}::timestamptz`

/**
 * Of the entries that the roll-ups hold: what came later may still be on its way to its reversal.
 */
function entryDifferences(period: BookPeriod, limit: number) {
  return sql`
    with event as (
      select *, request_id || '/' || attempt as subject from usage_events
      where ${during('occurred_at', period)}
    ), entry as (
      select *, request_id || '/' || attempt as subject,
        ingest_xid < (select watermark from rollup_state) as is_settled
      from ledger_entries
      where kind in ('usage', 'usage_reversal') and ${during('occurred_at', period)}
    ), owed as (
      select entry.id, entry.tenant_id, entry.subject, event.request_id is not null as has_event,
        array['tenant', 'amount_pusd', 'debit', 'credit', 'occurred_at', 'price base'] as fields,
        array[event.tenant_id,
          ((event.prompt_tokens - least(event.cached_prompt_tokens, event.prompt_tokens))::numeric
            * coalesce(price.prompt_pusd, 0)
            + least(event.cached_prompt_tokens, event.prompt_tokens)::numeric
            * coalesce(price.cached_prompt_pusd, 0)
            + event.completion_tokens::numeric * coalesce(price.completion_pusd, 0))::text,
          'unbilled/' || event.tenant_id, 'revenue/' || event.base_model, event.occurred_at::text,
          case when entry.price_id is not null then event.base_model end] as expected,
        array[entry.tenant_id, entry.amount_pusd::text, entry.debit_account, entry.credit_account,
          entry.occurred_at::text, price.base_model] as found
      from entry
      left join usage_events event
        on event.request_id = entry.request_id and event.attempt = entry.attempt
        and entry.id = event.request_id || '/' || event.attempt || '/usage'
      left join prices price on price.id = entry.price_id
      where entry.kind = 'usage'
    ), superseded as (
      select distinct lower.subject, lower.tenant_id from event lower
      join usage_events higher
        on higher.request_id = lower.request_id and higher.attempt > lower.attempt
    ), difference as (
      select 'charge_missing' as kind, event.tenant_id, event.subject, null as field,
        jsonb_build_object('events', 'stored', 'ledger', null) as books
      from event where not exists (
        select from ledger_entries charge where charge.id = event.subject || '/usage')
      union all
      select 'event_missing', tenant_id, id, null,
        jsonb_build_object('events', null, 'ledger', 'charged')
      from owed where not has_event
      union all
      select 'charge_wrong', tenant_id, subject, field,
        jsonb_build_object('events', expects, 'ledger', says)
      from owed cross join unnest(fields, expected, found) as fact(field, expects, says)
      where has_event and expects is distinct from says
      union all
      select 'reversal_missing', charge.tenant_id, charge.subject, null,
        jsonb_build_object('events', 'superseded', 'ledger', 'charged')
      from superseded join entry charge on charge.id = superseded.subject || '/usage'
      where charge.is_settled and not exists (
        select from ledger_entries back where back.id = superseded.subject || '/usage_reversal')
      union all
      select 'reversal_unfounded', back.tenant_id, back.subject, null,
        jsonb_build_object('events', 'last attempt', 'ledger', 'taken back')
      from entry back where back.kind = 'usage_reversal' and not exists (
        select from superseded where superseded.subject = back.subject)
      union all
      select 'reversal_wrong', back.tenant_id, back.subject, field,
        jsonb_build_object('charge', says, 'reversal', takes)
      from entry back
      left join ledger_entries charge on charge.id = back.subject || '/usage'
      cross join unnest(array['amount_pusd', 'debit', 'credit', 'occurred_at'],
        array[charge.amount_pusd::text, charge.credit_account, charge.debit_account,
          charge.occurred_at::text],
        array[back.amount_pusd::text, back.debit_account, back.credit_account,
          back.occurred_at::text]) as fact(field, says, takes)
      where back.kind = 'usage_reversal' and says is distinct from takes
    )
    select * from difference order by subject, kind, field limit ${limit}`
}

/** Of whole hours; every roll-up against the entries below the watermark. */
function rollupDifferences({ start, end }: BookPeriod, limit: number) {
  const hours = {
    start: new Date(Math.floor(start.getTime() / HOUR_MS) * HOUR_MS),
    end: new Date(Math.ceil(end.getTime() / HOUR_MS) * HOUR_MS),
  }
  const sumOf = (name: string, book: string) =>
    `coalesce(sum(${name}) filter (where book = '${book}'), 0)::text`
  const pairs = ROLLUP_COUNTERS.map((name) => `('${name}', ${name}_ledger, ${name}_rollups)`)
  const pairSums = ROLLUP_COUNTERS.map(
    (name) => `${sumOf(name, 'ledger')} as ${name}_ledger,
      ${sumOf(name, 'rollups')} as ${name}_rollups`,
  )
  const isRolledUp = sql`entry.ingest_xid < (select watermark from rollup_state)
    and ${during('entry.occurred_at', hours)}`
  return sql`
    with line as (
      select 'ledger' as book, ${LINE} from (${countedEntries(isRolledUp)}) as counted
      union all
      select 'rollups', ${LINE} from usage_rollups where ${during('hour', hours)}
    ), summed as (
      select ${ROLLUP_KEY}, ${sql.raw(pairSums.join(', '))} from line group by ${ROLLUP_KEY}
    )
    select 'rollup_wrong' as kind, tenant_id,
      model || ' at ' || to_char(hour at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"') as subject,
      field, jsonb_build_object('ledger', says, 'rollups', rolled) as books
    from summed cross join lateral (values ${sql.raw(pairs.join(', '))})
      as fact(field, says, rolled)
    where says <> rolled
    order by subject, tenant_id, field limit ${limit}`
}

const HOUR_MS = 3_600_000

/** An event, and what the ledger says of it. */
export interface BookedEvent {
  event: UsageEventRow
  /** NULL = nothing was charged. */
  chargedPusd: bigint | null
  priceId: string | null
  isReversed: boolean
}

/** In the order of (request id, attempt). */
export async function listBookedEvents(
  db: Db,
  page: BookPeriod & { readonly after: UsagePosition | null; readonly limit: number },
): Promise<BookedEvent[]> {
  const { requestId, attempt, occurredAt } = usageEvents
  const entryId = (kind: string) => sql`${requestId} || '/' || ${attempt} || ${`/${kind}`}::text`
  const position = page.after
  return db
    .select({
      event: getTableColumns(usageEvents),
      chargedPusd: charges.amountPusd,
      priceId: charges.priceId,
      isReversed: sql<boolean>`${reversals.id} is not null`.as('is_reversed'),
    })
    .from(usageEvents)
    .leftJoin(charges, eq(charges.id, entryId('usage')))
    .leftJoin(reversals, eq(reversals.id, entryId('usage_reversal')))
    .where(
      and(
        gte(occurredAt, page.start),
        lt(occurredAt, page.end),
        position === null
          ? undefined
          : sql`(${requestId}, ${attempt}) > (${position.requestId}, ${position.attempt})`,
      ),
    )
    .orderBy(asc(requestId), asc(attempt))
    .limit(page.limit)
}

const charges = alias(ledgerEntries, 'charges')
const reversals = alias(ledgerEntries, 'reversals')
