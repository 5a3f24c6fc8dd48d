/** The log files of an embedded pool: their last lines, and then each line as it is written. */
import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readdirSync,
  readSync,
  statSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { readLogTail } from '../up/log-file.ts'

const POLL_MS = 200
const READ_BYTES_MAX = 1024 * 1024
/** Of each log, looked through for its last lines. */
const TAIL_BYTES_MAX = 4 * READ_BYTES_MAX

export interface LogLine {
  /** Whose log: `edge`, `host`, `host-2` … */
  readonly source: string
  readonly text: string
}

/** Names of the logs that are there; those that were moved aside are not. */
export function listLogs(directory: string): string[] {
  if (!existsSync(directory)) return []
  const names = readdirSync(directory).filter((name) => name.endsWith('.log'))
  return names.map((name) => name.slice(0, -'.log'.length)).sort()
}

/** The last lines of each log, in the order of their times where they say one. */
export function readLastLines(
  directory: string,
  sources: readonly string[],
  count: number,
  isShown: (line: LogLine) => boolean,
): LogLine[] {
  // The last none of them would be all.
  if (count === 0) return []
  return sources
    .flatMap((source) => {
      const path = join(directory, `${source}.log`)
      const text = readLogTail(path, Number.MAX_SAFE_INTEGER, { bytesMax: TAIL_BYTES_MAX })
      const found = text === '' ? [] : text.split('\n').map((line) => ({ source, text: line }))
      return toDated(found)
        .filter(({ line }) => isShown(line))
        .slice(-count)
    })
    .sort((a, b) => (a.at < b.at ? -1 : Number(a.at > b.at)))
    .map(({ line }) => line)
    .slice(-count)
}

/** A line without a time, of a stack trace say, has that of the one before it. */
function toDated(lines: readonly LogLine[]): { at: string; line: LogLine }[] {
  let at = ''
  return lines.map((line) => {
    at = /"at":"([^"]+)"/.exec(line.text)?.[1] ?? at
    return { at, line }
  })
}

/** What is written from now on, of logs that come later too, until `signal` aborts. */
export async function* followLogs(
  directory: string,
  isWanted: (source: string) => boolean,
  signal: AbortSignal,
): AsyncGenerator<LogLine> {
  const followed = new Map<string, FollowedFile>()
  for (let isFirst = true; !signal.aborted; isFirst = false) {
    for (const source of listLogs(directory).filter(isWanted)) {
      const path = join(directory, `${source}.log`)
      const file = followed.get(source) ?? new FollowedFile(path, isFirst)
      followed.set(source, file)
      for (const text of file.readLines()) yield { source, text }
    }
    await sleep(POLL_MS, undefined, { signal }).catch(() => {})
  }
}

/** One file that grows, and is moved aside now and then. */
class FollowedFile {
  readonly #path: string
  #offset: number
  #inode: number
  #rest = Buffer.alloc(0)

  constructor(path: string, isFromEnd: boolean) {
    const { size, ino } = statSync(path)
    this.#path = path
    this.#offset = isFromEnd ? size : 0
    this.#inode = ino
  }

  /** Whole lines alone; a line that is being written waits for its end. */
  readLines(): string[] {
    if (!existsSync(this.#path)) return []
    const file = openSync(this.#path, 'r')
    try {
      const { size, ino } = fstatSync(file)
      if (ino !== this.#inode || size < this.#offset) {
        this.#inode = ino
        this.#offset = 0
        this.#rest = Buffer.alloc(0)
      }
      const chunk = Buffer.alloc(Math.min(size - this.#offset, READ_BYTES_MAX))
      this.#offset += readSync(file, chunk, 0, chunk.length, this.#offset)
      const bytes = Buffer.concat([this.#rest, chunk])
      const end = bytes.lastIndexOf(0x0a) + 1
      this.#rest = bytes.subarray(end)
      return bytes.subarray(0, end).toString('utf8').split('\n').slice(0, -1)
    } finally {
      closeSync(file)
    }
  }
}
