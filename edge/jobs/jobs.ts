/**
 * What an edge does beside answering requests. Every edge of a pool does all of it: a job must bear
 * that others are at it at the same moment, and that it is not run at all for a while.
 */
import { deleteOldIdempotencyKeys } from '#db/queries/idempotency-keys.ts'
import { ensurePartitions } from '#db/queries/partitions.ts'
import { closeSpendLeases } from '#db/queries/portions.ts'
import { rollUpUsage } from '#db/queries/usage-rollups.ts'
import { sendCloudEvents } from '../cloud-events/send-cloud-events.ts'
import type { Deps } from '../deps.ts'

export interface Job {
  /** snake_case; a label of the metric and a field of the log. */
  readonly name: string
  /** From the end of one run to the start of the next. */
  readonly everyMs: number
  /** Throws when it could not do its work; it is tried again soon. */
  run(deps: Deps): Promise<void>
}

export const JOBS: readonly Job[] = [
  {
    name: 'roll_up_usage',
    everyMs: 5_000,
    run: async ({ db, log }) => {
      const { reversed } = await rollUpUsage(db)
      if (reversed > 0) log('info', 'charges of overtaken attempts taken back', { reversed })
    },
  },
  {
    name: 'store_voids',
    everyMs: 5_000,
    run: ({ voids }) => voids.flush(),
  },
  {
    name: 'ensure_partitions',
    everyMs: 3_600_000,
    run: async ({ db, log, nowMs }) => {
      const made = await ensurePartitions(db, new Date(nowMs()))
      if (made > 0) log('info', 'months of the ledger made ahead', { partitions: made })
    },
  },
  {
    name: 'close_spend_leases',
    everyMs: 60_000,
    run: async ({ db }) => {
      await closeSpendLeases(db)
    },
  },
  {
    name: 'delete_idempotency_keys',
    everyMs: 600_000,
    run: async ({ db }) => {
      await deleteOldIdempotencyKeys(db)
    },
  },
  { name: 'send_cloud_events', everyMs: 5_000, run: sendCloudEvents },
]
