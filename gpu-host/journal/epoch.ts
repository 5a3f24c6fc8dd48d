/**
 * The epoch: a number that grows at each start of the host, kept in a file. The edge refuses an
 * older epoch, so a host that comes back cannot be mistaken for the one that left.
 */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { errorCodeOf } from '../errors.ts'

/** Returns the new epoch, ≥ 1, on disk before it is used. Throws when the counter is unreadable. */
export function nextEpoch(directory: string): number {
  const path = join(directory, 'epoch')
  const epoch = readEpoch(path) + 1
  writeFileDurably(path, `${epoch}\n`)
  return epoch
}

function readEpoch(path: string): number {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if (errorCodeOf(error) === 'ENOENT') return 0
    throw error
  }
  if (!/^\d{1,15}\n$/.test(text)) throw new Error(`epoch counter ${path} is not a number`)
  return Number(text)
}

/** Replaces `path` at once: after a crash it holds the old text or the new, never a mixture. */
export function writeFileDurably(path: string, text: string): void {
  const temporary = `${path}.tmp`
  const fd = openSync(temporary, 'w', 0o600)
  try {
    writeSync(fd, text)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  renameSync(temporary, path)
}
