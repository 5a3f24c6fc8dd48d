/** The log of one child: kept across starts, moved aside when it has grown large. */
import { closeSync, existsSync, fstatSync, openSync, readSync, renameSync, statSync } from 'node:fs'
import { z } from 'zod'

const LOG_BYTES_MAX = 16 * 1024 * 1024
const TAIL_BYTES = 16 * 1024

const lastWords = z.object({ reason: z.string(), fix: z.string().optional() })
export type LastWords = z.infer<typeof lastWords>

/** Returns a file descriptor to append to; the caller closes it. */
export function openLog(path: string): number {
  if (existsSync(path) && statSync(path).size > LOG_BYTES_MAX) renameSync(path, `${path}.1`)
  return openSync(path, 'a', 0o600)
}

/**
 * The last lines, whole ones, of the last bytes; empty when there is no log.
 *
 * @param fromByte what stands before it is not read.
 */
export function readLogTail(
  path: string,
  lines: number,
  { bytesMax = TAIL_BYTES, fromByte = 0 } = {},
): string {
  if (!existsSync(path)) return ''
  const file = openSync(path, 'r')
  try {
    const { size } = fstatSync(file)
    const begin = Math.max(size - bytesMax, Math.min(fromByte, size))
    const buffer = Buffer.alloc(size - begin)
    readSync(file, buffer, 0, buffer.length, begin)
    const read = buffer.toString('utf8').trimEnd().split('\n')
    // The first one may be cut off; where it is the only one, a part says more than nothing.
    const whole = begin > fromByte && read.length > 1 ? read.slice(1) : read
    return whole.slice(-lines).join('\n')
  } finally {
    closeSync(file)
  }
}

/** Why a child that did not start says it did not: the last line of its log. */
export function readLastWords(path: string): LastWords {
  const line = readLogTail(path, 1)
  try {
    return lastWords.parse(JSON.parse(line))
  } catch {
    // Not a log line of ours: shown as it is.
    return { reason: line }
  }
}
