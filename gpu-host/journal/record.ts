/**
 * The journal's records and their framing. One line each:
 *   <crc> <previous crc> <number> <JSON>\n      crc in 8 hex digits, over all that follows it
 * A record proves itself (crc), its place (number) and its predecessor (previous crc), so a flipped
 * bit, a lost, doubled or moved record is seen. The check is zlib's CRC-32 (IEEE 802.3; Node has no
 * CRC-32C): against accidents, not against someone who may write to the directory.
 */
import { crc32 } from 'node:zlib'
import { z } from 'zod'
import { adapterSource, generateRequest, usageEvent } from '../protocol.ts'

const tokenCount = z.int().min(0)
const handle = z.int().min(0)

/** What a usage event says about a request that is known on admission. */
export const requestFacts = generateRequest.pick({
  request_id: true,
  attempt: true,
  tenant_id: true,
  key_id: true,
  model: true,
  model_id: true,
  adapter_version_id: true,
  adapter_digest: true,
  base_model: true,
  price_version_id: true,
  lease_ids: true,
})
export type RequestFacts = z.infer<typeof requestFacts>

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
  format: z.literal(1),
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

/** Where the next record joins the chain. */
export interface ChainPosition {
  readonly crc: string
  readonly number: number
}
export const CHAIN_START: ChainPosition = { crc: '00000000', number: 0 }

export interface DecodedRecord {
  readonly record: JournalRecord
  readonly crc: string
  readonly previousCrc: string
  readonly number: number
}

/** Throws on a record that `decodeRecord` would not accept: what cannot be read is not written. */
export function encodeRecord(
  record: JournalRecord,
  at: ChainPosition,
): { readonly line: string; readonly next: ChainPosition } {
  // Progress is written every step and is integers by construction.
  if (record.t !== 'progress') journalRecord.parse(record)
  const covered = `${at.crc} ${at.number} ${JSON.stringify(record)}`
  const crc = toCrcText(crc32(covered))
  return { line: `${crc} ${covered}\n`, next: { crc, number: at.number + 1 } }
}

const FRAME = /^([0-9a-f]{8}) ([0-9a-f]{8}) (0|[1-9][0-9]{0,14}) (\{.*\})$/s

/** `line` without its newline. null = not a record: damaged or cut off. */
export function decodeRecord(line: string): DecodedRecord | null {
  const match = FRAME.exec(line)
  const [, crc, previousCrc, number, json] = match ?? []
  if (crc === undefined || previousCrc === undefined || json === undefined) return null
  if (toCrcText(crc32(line.slice(crc.length + 1))) !== crc) return null
  const parsed = journalRecord.safeParse(parseJson(json))
  if (!parsed.success) return null
  return { record: parsed.data, crc, previousCrc, number: Number(number) }
}

function toCrcText(value: number): string {
  return value.toString(16).padStart(8, '0')
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
