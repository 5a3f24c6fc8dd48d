/**
 * What the journal's records say. How they stand in a file is frame.ts.
 */
import { z } from 'zod'
import { adapterSource, requestFacts, usageEvent } from '../protocol.ts'

const tokenCount = z.int().min(0)
const handle = z.int().min(0)

const openedRecord = z.object({
  t: z.literal('opened'),
  /** Names the request within its epoch. */
  n: handle,
  at: z.iso.datetime(),
  request: requestFacts,
})

const startedRecord = z.object({
  t: z.literal('started'),
  n: handle,
  queue_us: z.int().min(0),
  ttft_us: z.int().min(0),
  swap_us: z.int().min(0),
  /** Of the adapter's pack; journals of before it was told have none. */
  adapter_bytes: z.int().min(0).default(0),
  source: adapterSource,
  /** Journals of before the prefix cache have none. */
  cached_prompt_tokens: tokenCount.default(0),
})

/**
 * Running totals of one request: handle, prompt rows run, tokens generated, engine microseconds.
 */
const progressRow = z.tuple([handle, tokenCount, tokenCount, z.int().min(0)])
export type ProgressRow = z.infer<typeof progressRow>

const progressRecord = z.object({ t: z.literal('progress'), rows: z.array(progressRow).min(1) })

const settledRecord = z.object({
  t: z.literal('settled'),
  n: handle,
  /** The final host error code, or null; for the reader of the journal. */
  code: z.string().nullable(),
  /** null = nothing to bill and nothing delivered: the request may be served elsewhere. */
  event: usageEvent.nullable(),
})

/**
 * First record of each segment: repeats what is open, so that no older segment is needed for it.
 */
const segmentRecord = z.object({
  t: z.literal('segment'),
  format: z.union([z.literal(1), z.literal(2)]),
  /** Which journal it belongs to; null in format 1. */
  journal_id: z.string().nullable().default(null),
  host_id: z.string(),
  epoch: z.int().min(0),
  index: z.int().min(0),
  at: z.iso.datetime(),
  /** CRC of the last record of the segment before; null for the first, or after damage there. */
  previous_crc: z.string().nullable(),
  open: z.array(
    z.object({
      opened: openedRecord,
      started: startedRecord.nullable(),
      progress: progressRow.nullable(),
    }),
  ),
})

/** Head of a segment that was written anew from the readable records of a damaged one. */
const salvagedRecord = z.object({ t: z.literal('salvaged'), lost_bytes: z.int().min(0) })

export const journalRecord = z.discriminatedUnion('t', [
  segmentRecord,
  salvagedRecord,
  openedRecord,
  startedRecord,
  progressRecord,
  settledRecord,
])
export type JournalRecord = z.infer<typeof journalRecord>
export type OpenedRecord = z.infer<typeof openedRecord>
export type StartedRecord = z.infer<typeof startedRecord>
export type SegmentRecord = z.infer<typeof segmentRecord>
export type SettledRecord = z.infer<typeof settledRecord>
