/**
 * Whatever bytes a journal's segment holds, a host that starts reads them: no record that was never
 * written, no request billed in two ways or beyond what was recorded, nothing missing in silence.
 */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import {
  FUZZ_SEED,
  FUZZ_TIMEOUT_MS,
  fuzzParameters,
  reportFuzz,
} from '../../native/test/support/fuzz.ts'
import { JournalRig, opened, progress, settled, started } from '../test/support/journal-records.ts'
import { NEWLINE } from './frame.ts'
import { scanSegment, segmentPath } from './segment.ts'

const REQUESTS = 5
const TOKENS = 4
/** Of a soak's time. */
const SHARES = { scan: 0.5, start: 0.5 }

function writeTraffic(): Buffer {
  const rig = new JournalRig()
  const journal = rig.open()
  for (let n = 0; n < REQUESTS; n++) {
    journal.append([opened(n), started(n)])
    for (let tokens = 1; tokens <= TOKENS; tokens++) journal.append([progress(n, 3, tokens)])
    if (n % 2 === 0) journal.append([settled(n, TOKENS)])
  }
  return rig.disk.readFile(segmentPath(rig.directory, 0))
}

const sound = writeTraffic()
const lines = sound.toString('latin1').split('\n').slice(0, -1)
const known = new Set(scanSegment(sound).records.map(({ record }) => JSON.stringify(record)))

type Edit = (bytes: Buffer) => Buffer
const place = fc.nat(sound.length)
const edit: fc.Arbitrary<Edit> = fc.oneof(
  fc.record({ at: place, byte: fc.nat(255) }).map(
    ({ at, byte }): Edit =>
      (bytes) => {
        const changed = Buffer.from(bytes)
        if (at < changed.length) changed[at] = byte
        return changed
      },
  ),
  place.map(
    (at): Edit =>
      (bytes) =>
        bytes.subarray(0, at),
  ),
  fc.record({ at: place, count: fc.integer({ min: 1, max: 300 }) }).map(
    ({ at, count }): Edit =>
      (bytes) =>
        Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + count)]),
  ),
  fc.record({ at: place, more: fc.uint8Array({ minLength: 1, maxLength: 64 }) }).map(
    ({ at, more }): Edit =>
      (bytes) =>
        Buffer.concat([bytes.subarray(0, at), more, bytes.subarray(at)]),
  ),
  // A whole line once more, somewhere: each is sound in itself.
  fc.record({ from: fc.nat(lines.length - 1), to: fc.nat(lines.length) }).map(
    ({ from, to }): Edit =>
      (bytes) => {
        const own = bytes.toString('latin1').split('\n')
        own.splice(to, 0, lines[from] ?? '')
        return Buffer.from(own.join('\n'), 'latin1')
      },
  ),
)
const edits = fc.array(edit, { minLength: 1, maxLength: 4 })
const apply = (steps: readonly Edit[]): Buffer => steps.reduce((bytes, step) => step(bytes), sound)

it(
  'finds no record that was not written, and sees what is not as it was',
  () => {
    let executions = 0
    let damaged = 0
    fc.assert(
      fc.property(edits, (steps) => {
        executions += 1
        const bytes = apply(steps)
        const scan = scanSegment(bytes)
        for (const { record } of scan.records) expect(known).toContain(JSON.stringify(record))
        const isSeen = scan.damaged || scan.tornBytes > 0
        if (isSeen) damaged += 1
        // A cut behind a line looks like a journal that had not come further.
        const isCut = bytes.equals(sound.subarray(0, bytes.length))
        const isWholeLines = bytes.length === 0 || bytes.at(-1) === NEWLINE
        expect(isSeen).toBe(!(isCut && isWholeLines))
      }),
      fuzzParameters(800, SHARES.scan),
    )
    expect(damaged).toBeGreaterThan(executions / 2)
    reportFuzz('journal reader', { seed: FUZZ_SEED, executions, damaged })
  },
  FUZZ_TIMEOUT_MS,
)

it(
  'starts on it, and says of each request one thing, no more than was recorded',
  () => {
    let executions = 0
    let events = 0
    fc.assert(
      fc.property(edits, (steps) => {
        executions += 1
        const rig = new JournalRig()
        rig.disk.writeFile(segmentPath(rig.directory, 0), apply(steps))
        const journal = rig.open()
        journal.append([opened(99), settled(99, 1)])
        const billed = rig.settledEvents()
        events += billed.length
        const byId = new Map<string, string>()
        for (const event of billed) {
          const text = JSON.stringify(event)
          // A line that stands twice says the same twice: the ledger takes it once.
          expect(byId.get(event.request_id) ?? text).toBe(text)
          byId.set(event.request_id, text)
          expect(event.completion_tokens).toBeLessThanOrEqual(TOKENS)
        }
        expect(byId.has('req_99')).toBe(true)
      }),
      fuzzParameters(150, SHARES.start),
    )
    expect(events).toBeGreaterThan(executions)
    reportFuzz('journal start', { seed: FUZZ_SEED, executions, events })
  },
  FUZZ_TIMEOUT_MS,
)
