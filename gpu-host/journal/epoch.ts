/**
 * The epoch: a number that grows at each start of the host, kept in a file. The edge refuses an
 * older epoch, so a host that comes back cannot be mistaken for the one that left.
 */
import { join } from 'node:path'
import { errorCodeOf } from '../errors.ts'
import type { Disk } from './disk.ts'
import { readFile, replaceFile } from './durable-file.ts'

/** The new epoch, ≥ 1, on disk before it is used. Throws when the counter is unreadable. */
export function nextEpoch(disk: Disk, directory: string): number {
  const path = join(directory, 'epoch')
  const epoch = readEpoch(disk, path) + 1
  replaceFile(disk, path, Buffer.from(`${epoch}\n`))
  return epoch
}

function readEpoch(disk: Disk, path: string): number {
  let text: string
  try {
    text = readFile(disk, path).toString()
  } catch (error) {
    if (errorCodeOf(error) === 'ENOENT') return 0
    throw error
  }
  if (!/^\d{1,15}\n$/.test(text)) throw new Error(`epoch counter ${path} is not a number`)
  return Number(text)
}
