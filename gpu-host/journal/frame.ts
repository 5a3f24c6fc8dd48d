/**
 * How a record stands in a segment: one line,
 *   2 <check> <previous check> <number> <JSON>\n
 * The check is CRC-32C, in 8 hex digits, of all that follows it. So a record proves itself, its
 * place (number) and its predecessor (previous check), and a flipped bit, a lost, doubled or moved
 * record is seen: against accidents, not against someone who may write to the directory. Format 1,
 * still read, has no leading "2 " and the CRC-32 of zlib.
 */
import { crc32 } from 'node:zlib'
import { crc32c } from './crc32c.ts'
import { type JournalRecord, journalRecord } from './record.ts'

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

const MARK = '2 '
/** Mark, check and the space behind it: where what the check covers begins. */
const COVERED_FROM = MARK.length + 9
const FRAME = /^(2 )?([0-9a-f]{8}) ([0-9a-f]{8}) (0|[1-9][0-9]{0,14}) (\{.*\})$/s
export const NEWLINE = 10

/** Throws on a record that `decodeRecord` would not accept: what cannot be read is not written. */
export function encodeRecord(
  record: JournalRecord,
  at: ChainPosition,
): { readonly line: Buffer; readonly next: ChainPosition } {
  // Progress is written every step and is integers by construction.
  if (record.t !== 'progress') journalRecord.parse(record)
  const line = Buffer.from(`${MARK}00000000 ${at.crc} ${at.number} ${JSON.stringify(record)}\n`)
  const crc = toHex(crc32c(line.subarray(COVERED_FROM, line.length - 1)))
  line.write(crc, MARK.length, 'latin1')
  return { line, next: { crc, number: at.number + 1 } }
}

/** The lines of `records`, joined to the chain at `at`. */
export function encodeRecords(
  records: readonly JournalRecord[],
  at: ChainPosition,
): { readonly bytes: Buffer; readonly next: ChainPosition } {
  const lines: Buffer[] = []
  let next = at
  for (const record of records) {
    const encoded = encodeRecord(record, next)
    lines.push(encoded.line)
    next = encoded.next
  }
  return { bytes: Buffer.concat(lines), next }
}

/** `line` without its newline. null = not a record: damaged or cut off. */
export function decodeRecord(line: Buffer): DecodedRecord | null {
  const [, mark, crc, previousCrc, number, json] = FRAME.exec(line.toString('utf8')) ?? []
  if (crc === undefined || previousCrc === undefined || json === undefined) return null
  const covered = line.subarray(mark === undefined ? 9 : COVERED_FROM)
  if (toHex(mark === undefined ? crc32(covered) : crc32c(covered)) !== crc) return null
  const parsed = journalRecord.safeParse(parseJson(json))
  if (!parsed.success) return null
  return { record: parsed.data, crc, previousCrc, number: Number(number) }
}

export function toHex(value: number): string {
  return value.toString(16).padStart(8, '0')
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
