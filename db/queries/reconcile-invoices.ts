/**
 * Where final invoices disagree with their lines, with the prices, with what the ledger moved and
 * with what the roll-ups say was taken. Part of reconcile.ts; reckons everything anew.
 */
import { type SQL, sql } from 'drizzle-orm'
import { billingPeriodOf } from '../billing-period.ts'
import type { BookPeriod } from './reconcile.ts'

/** Invoices whose month and lines whose usage lie in the period, whole months. */
export function invoiceDifferences({ start, end }: BookPeriod, limit: number): SQL {
  const from = billingPeriodOf(start).start.toISOString()
  const to = billingPeriodOf(new Date(end.getTime() - 1)).end.toISOString()
  const during = (time: string) => sql`${sql.raw(time)} >= ${from}::timestamptz
    and ${sql.raw(time)} < ${to}::timestamptz`
  return sql`
    with invoice as (
      select * from invoices where status = 'final' and ${during('period_start')}
    ), line as (
      select line.*, line.invoice_id || ' line ' || line.line as subject,
        case line.kind when 'prompt' then price.prompt_pusd
          when 'cached_prompt' then price.cached_prompt_pusd
          else price.completion_pusd end as price_pusd
      from invoice_lines line join invoice on invoice.id = line.invoice_id
      left join prices price on price.id = line.price_id
    ), posted as (
      select id, split_part(id, '/', 1) as invoice_id, tenant_id, kind, occurred_at,
        case (debit_account, credit_account)
          when ('receivable/' || tenant_id, other || tenant_id) then amount_pusd
          when (other || tenant_id, 'receivable/' || tenant_id) then -amount_pusd
        end as moved_pusd
      from ledger_entries cross join lateral (
        select case kind when 'invoice' then 'unbilled/' else 'rounding/' end as other) as account
      where kind in ('invoice', 'rounding') and ledger_entries.id >= 'inv_'
        and ledger_entries.id < 'inv~'
    ), fact as (
      select 'invoice_line_wrong' as kind, line.tenant_id, subject, fact.* from line
      cross join lateral (values
        ('unit_price_pusd', 'prices', coalesce(price_pusd, 0)::numeric, 'line', unit_price_pusd),
        ('exact_pusd', 'quantity', quantity * unit_price_pusd, 'line', exact_pusd),
        ('billed_pusd', 'exact', round(exact_pusd * 0.0000000001) * 10000000000, 'line',
          billed_pusd)
      ) as fact(field, book, says, other_book, other_says)
      union all
      select 'invoice_wrong', invoice.tenant_id, invoice.id, fact.* from invoice
      cross join lateral (
        select coalesce(sum(exact_pusd), 0) as exact, coalesce(sum(billed_pusd), 0) as billed,
          count(*) as lines
        from line where line.invoice_id = invoice.id) as own
      cross join lateral (values
        ('exact_pusd', 'lines', own.exact, 'invoice', invoice.exact_pusd),
        ('billed_pusd', 'lines', own.billed, 'invoice', invoice.billed_pusd),
        ('line_count', 'lines', own.lines::numeric, 'invoice', invoice.line_count::numeric),
        ('unbilled_pusd', 'invoice', invoice.exact_pusd, 'ledger', coalesce((select moved_pusd
          from posted where posted.id = invoice.id || '/invoice'), 0)),
        ('rounding_pusd', 'invoice', invoice.billed_pusd - invoice.exact_pusd, 'ledger',
          coalesce((select moved_pusd from posted where posted.id = invoice.id || '/rounding'), 0))
      ) as fact(field, book, says, other_book, other_says)
      union all
      select 'invoice_missing', posted.tenant_id, posted.id, null, 'ledger', 1, 'invoice', null
      from posted where ${during('occurred_at')}
        and not exists (select from invoices where invoices.id = posted.invoice_id)
      union all
      select 'invoiced_wrong', tenant_id,
        model || ' in ' || to_char(month at time zone 'UTC', 'YYYY-MM'), fact.*
      from (${takenByBook(during)}) as taken
      cross join lateral (values
        ('prompt_tokens', 'lines', line_prompt, 'rollups', rollup_prompt),
        ('cached_prompt_tokens', 'lines', line_cached, 'rollups', rollup_cached),
        ('completion_tokens', 'lines', line_completion, 'rollups', rollup_completion),
        ('exact_pusd', 'lines', line_pusd, 'rollups', rollup_pusd)
      ) as fact(field, book, says, other_book, other_says)
    )
    select kind, tenant_id, subject, field,
      jsonb_build_object(book, says::text, other_book, other_says::text) as books
    from fact where says is distinct from other_says
    order by subject, tenant_id, kind, field limit ${limit}`
}

/** What invoices took of each model's month at each price: as their lines and the roll-ups say. */
function takenByBook(during: (time: string) => SQL): SQL {
  const key = sql.raw('tenant_id, month, model, model_id, base_model, price_id')
  const sumOf = (name: string, book: string) =>
    `coalesce(sum(${name}) filter (where book = '${book}'), 0) as ${book}_${name}`
  const sums = ['prompt', 'cached', 'completion', 'pusd'].flatMap((name) => [
    sumOf(name, 'line'),
    sumOf(name, 'rollup'),
  ])
  return sql`
    select ${key}, ${sql.raw(sums.join(', '))} from (
      select 'line' as book, tenant_id, usage_start as month, model, model_id, base_model, price_id,
        case kind when 'prompt' then quantity else 0 end as prompt,
        case kind when 'cached_prompt' then quantity else 0 end as cached,
        case kind when 'completion' then quantity else 0 end as completion, exact_pusd as pusd
      from invoice_lines where ${during('usage_start')}
      union all
      select 'rollup', tenant_id, date_trunc('month', hour, 'UTC'), model, model_id, base_model,
        price_id, invoiced_prompt_tokens - invoiced_cached_prompt_tokens,
        invoiced_cached_prompt_tokens, invoiced_completion_tokens, invoiced_amount_pusd
      from usage_rollups where ${during('hour')}
    ) as each group by ${key}`
}
