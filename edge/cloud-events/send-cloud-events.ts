/**
 * Sends what the ledger has of usage to the receiver of `NOZZLE_CLOUDEVENTS_URL`, from where the
 * last run of any edge came to. One edge at a time, by a claim in the database that lapses with its
 * holder. Reads only: a receiver that is away, slow or wrong never holds up the ledger.
 */
import {
  advanceExport,
  claimExport,
  type ExportClaim,
  type ExportPosition,
  listEntriesToExport,
  releaseExport,
} from '#db/queries/event-exports.ts'
import type { Deps } from '../deps.ts'
import { type Receiver, ReceiverUnavailable, type RefusedEvent, sendBatch } from './batch-sender.ts'
import { toCloudEvent } from './cloud-event.ts'

const EXPORT_ID = 'cloudevents'
const BATCH_EVENTS_MAX = 500
/** So that a run ends: what is left is the next run's. */
const BATCHES_MAX = 20
/** Longer than one batch takes to be sent, halved and refused piece by piece. */
const CLAIM_MS = 120_000
const RETRY_MS_MIN = 5_000
const RETRY_MS_MAX = 300_000
/** A batch refused as a whole may be the receiver's fault: so often it is sent again first. */
const WHOLE_REFUSALS_MAX = 6

/** Nothing to do without a receiver. Throws ReceiverUnavailable; the time to try again is noted. */
export async function sendCloudEvents(deps: Deps): Promise<void> {
  const receiver = deps.config.cloudEvents
  if (receiver === null) return
  const claimant = crypto.randomUUID()
  const self = { exportId: EXPORT_ID, claimant }
  const claim = await claimExport(deps.db, { ...self, forMs: CLAIM_MS })
  if (claim === null) return
  let retryMs: number | null = null
  try {
    await sendFrom(deps, receiver, claim, claimant)
  } catch (error) {
    const asked = error instanceof ReceiverUnavailable ? error.retryAfterMs : null
    retryMs = Math.min(RETRY_MS_MAX, asked ?? RETRY_MS_MIN * 2 ** Math.min(claim.failures, 10))
    deps.metrics.cloudEvents.add({ outcome: 'failed_batch' })
    throw error
  } finally {
    await releaseExport(deps.db, { ...self, retryMs })
  }
}

async function sendFrom(
  deps: Deps,
  receiver: Receiver,
  claim: ExportClaim,
  claimant: string,
): Promise<void> {
  let { position, failures }: { position: ExportPosition; failures: number } = claim
  for (let batch = 0; batch < BATCHES_MAX; batch += 1) {
    const entries = await listEntriesToExport(deps.db, position, BATCH_EVENTS_MAX)
    const last = entries.at(-1)
    if (last === undefined) return
    const refused = await sendBatch(deps.fetch, receiver, entries.map(toCloudEvent))
    if (refused.length === entries.length && failures < WHOLE_REFUSALS_MAX) {
      throw new ReceiverUnavailable(`all is refused: ${refused[0]?.reason ?? ''}`, null)
    }
    position = { ingestXid: last.ingestXid, entryId: last.entryId }
    failures = 0
    reportRefused(deps, refused)
    const wish = { exportId: EXPORT_ID, claimant, position, refused, forMs: CLAIM_MS }
    deps.metrics.cloudEvents.add({ outcome: 'sent' }, entries.length - refused.length)
    if (!(await advanceExport(deps.db, wish))) return
  }
}

function reportRefused({ log, metrics }: Deps, refused: readonly RefusedEvent[]): void {
  metrics.cloudEvents.add({ outcome: 'dead' }, refused.length)
  for (const { entryId, reason } of refused) {
    const fields = { entry_id: entryId, reason }
    log('error', 'the receiver of CloudEvents refuses an event: it is given up', fields)
  }
}
