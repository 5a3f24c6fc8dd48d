/**
 * `node gpu-host/journal/dump.ts <journal directory>`: every settled usage event as a JSON line on
 * stdout, oldest first. Read-only, safe while the host runs; reconciliation starts it as a process.
 */
import { nodeDisk } from './disk.ts'
import { listSegments } from './segment.ts'
import { type JournalCursor, readSettled } from './settled-reader.ts'

const EVENTS_PER_PAGE = 1000

const [directory] = process.argv.slice(2)
if (directory === undefined) {
  process.stderr.write('usage: dump.ts <journal directory>\n')
  process.exitCode = 2
} else {
  let cursor: JournalCursor = { segment: listSegments(nodeDisk, directory)[0] ?? 0, offset: 0 }
  for (;;) {
    const page = readSettled(directory, cursor, EVENTS_PER_PAGE)
    if (page.events.length === 0) break
    process.stdout.write(`${page.events.map((event) => JSON.stringify(event)).join('\n')}\n`)
    cursor = page.cursor
  }
}
