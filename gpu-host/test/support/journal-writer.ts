/**
 * Child process of the crash test: journals one token after the other, telling each once written.
 */
import { writeSync } from 'node:fs'
import { Journal } from '../../journal/journal.ts'
import { journalOptions, opened, progress } from './journal-records.ts'

const journal = new Journal({ ...journalOptions(process.argv[2] ?? ''), segmentBytesMax: 1e9 })
journal.append([opened(0)])
for (let tokens = 1; tokens < 1_000_000; tokens++) {
  journal.append([progress(0, 3, tokens)])
  writeSync(1, `${tokens}\n`)
}
