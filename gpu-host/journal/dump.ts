/**
 * `node gpu-host/journal/dump.ts <journal directory>`: every settled usage event as a JSON line on
 * stdout, oldest first. With `--verify`, a line for each segment instead (records, damage, open
 * requests) and one for the whole; exit code 1 when anything is damaged, missing or was set aside.
 * Exit code 3 when the directory holds no journal.
 * Read-only, safe while the host runs; reconciliation starts it as a process.
 */
import { parseArgs } from 'node:util'
import { errorText } from '../log.ts'
import { nodeDisk } from './disk.ts'
import { listSegments } from './segment.ts'
import { type JournalCursor, readSettled } from './settled-reader.ts'
import { isJournal, verifyJournal } from './verify.ts'

const USAGE = 'usage: dump.ts [--verify] <journal directory>\n'
const EVENTS_PER_PAGE = 1000
const EXIT_DAMAGED = 1
const EXIT_USAGE = 2
const EXIT_NO_JOURNAL = 3

function printEvents(directory: string): void {
  let cursor: JournalCursor = { segment: listSegments(nodeDisk, directory)[0] ?? 0, offset: 0 }
  for (;;) {
    const page = readSettled(directory, cursor, EVENTS_PER_PAGE)
    if (page.events.length === 0) break
    process.stdout.write(`${page.events.map((event) => JSON.stringify(event)).join('\n')}\n`)
    cursor = page.cursor
  }
}

function printReport(directory: string): void {
  const { segments, ...whole } = verifyJournal(nodeDisk, directory)
  for (const segment of segments) process.stdout.write(`${JSON.stringify(segment)}\n`)
  process.stdout.write(`${JSON.stringify({ segments: segments.length, ...whole })}\n`)
  if (!whole.is_sound) process.exitCode = EXIT_DAMAGED
}

function run(): void {
  const { values, positionals } = parseArgs({
    options: { verify: { type: 'boolean', default: false }, help: { type: 'boolean', short: 'h' } },
    allowPositionals: true,
  })
  const [directory] = positionals
  if (values.help) process.stdout.write(USAGE)
  else if (directory === undefined || positionals.length > 1) throw new Error('name one directory')
  else if (!isJournal(nodeDisk, directory)) {
    process.stderr.write(`no journal at ${directory}: it has no segment and no epoch file\n`)
    process.exitCode = EXIT_NO_JOURNAL
  } else if (values.verify) printReport(directory)
  else printEvents(directory)
}

try {
  run()
} catch (error) {
  process.stderr.write(`${errorText(error)}\n${USAGE}`)
  process.exitCode = EXIT_USAGE
}
