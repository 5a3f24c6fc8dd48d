/**
 * Small state beside the segments (the epoch, how far was shipped): `<CRC-32C> <JSON>`, replaced as
 * a whole. A flipped bit in such a file is as bad as one in a record: a cursor that points too far
 * would skip events.
 */
import type { z } from 'zod'
import { errorCodeOf } from '../errors.ts'
import { crc32c } from './crc32c.ts'
import type { Disk } from './disk.ts'
import { readFile } from './durable-file.ts'
import { toHex } from './frame.ts'

export type CheckedContent<T> =
  | { readonly state: 'present'; readonly value: T }
  | { readonly state: 'missing' }
  | { readonly state: 'damaged'; readonly text: string }

export function encodeChecked(value: unknown): Buffer {
  const json = JSON.stringify(value)
  return Buffer.from(`${toHex(crc32c(Buffer.from(json)))} ${json}\n`)
}

export function readChecked<T>(disk: Disk, path: string, schema: z.ZodType<T>): CheckedContent<T> {
  let text: string
  try {
    text = readFile(disk, path).toString('utf8')
  } catch (error) {
    if (errorCodeOf(error) === 'ENOENT') return { state: 'missing' }
    throw error
  }
  const [, check, json] = /^([0-9a-f]{8}) (.*)\n$/s.exec(text) ?? []
  if (json === undefined || toHex(crc32c(Buffer.from(json))) !== check) {
    return { state: 'damaged', text }
  }
  const parsed = schema.safeParse(JSON.parse(json))
  return parsed.success ? { state: 'present', value: parsed.data } : { state: 'damaged', text }
}
