/**
 * How long requests of a period waited for their first token and adapters for their slot, counted
 * into buckets, by where the adapter was found. From usage events, which hosts measure.
 */
import { sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import { timeSigns } from '../ids.ts'
import type { AdapterSource } from '../schema/usage-events.ts'

/** Upper bounds in microseconds, excluded; one bucket more holds what is above them all. */
export const LATENCY_BOUNDS_US: readonly number[] = [
  1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
  5_000_000, 10_000_000, 30_000_000,
]

/** `ttft` = from a host's admission to the first token; `swap` = of a load into a slot. */
export type LatencyKind = 'ttft' | 'swap'

export interface LatencyCounts {
  readonly kind: LatencyKind
  readonly source: AdapterSource
  /** Of LATENCY_BOUNDS_US, and the last. */
  readonly counts: readonly number[]
}

type Row = { kind: LatencyKind; source: AdapterSource; bucket: number; events: number }

/**
 * Of the attempts that a host finished. Requests' ids sort by time, so the period is a range of the
 * primary key; an id that carries no time is not counted.
 */
export async function countLatencies(
  db: Db,
  { start, end }: { readonly start: Date; readonly end: Date },
): Promise<LatencyCounts[]> {
  const bounds = sql.raw(`array[${LATENCY_BOUNDS_US.join(', ')}]::bigint[]`)
  const { rows } = await db.execute<Row>(sql`
    with event as (
      select adapter_source as source, ttft_us, swap_us from usage_events
      where request_id >= ${`req_${timeSigns(start.getTime())}`}
        and request_id < ${`req_${timeSigns(end.getTime())}`} and source = 'engine'
    )
    select 'ttft' as kind, source, width_bucket(ttft_us, ${bounds}) as bucket,
      count(*)::integer as events
    from event where ttft_us is not null group by 2, 3
    union all
    select 'swap', source, width_bucket(swap_us, ${bounds}), count(*)::integer
    from event where swap_us > 0 group by 2, 3
    order by 1, 2, 3`)
  return toCounts(rows)
}

function toCounts(rows: readonly Row[]): LatencyCounts[] {
  const found = new Map<string, LatencyCounts & { counts: number[] }>()
  for (const { kind, source, bucket, events } of rows) {
    const key = `${kind} ${source}`
    const known = found.get(key)
    const counts = known?.counts ?? Array<number>(LATENCY_BOUNDS_US.length + 1).fill(0)
    counts[bucket] = events
    if (known === undefined) found.set(key, { kind, source, counts })
  }
  return [...found.values()]
}
