/**
 * What a host's journal holds, and whether it is whole, read by the host's own dump as a process:
 * how a journal is written is the host's affair. Safe while the host runs.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { z } from 'zod'
import { type UsageEvent, usageEvent } from '#protocol'
import { CliError } from '../lib/cli-error.ts'
import type { CommandCall } from '../lib/command.ts'

export interface JournalBook {
  readonly directory: string
  /** Oldest first; the same event once for each time that it was settled. */
  readonly events: readonly UsageEvent[]
  /** That wrote it; more than one where a host was named anew. */
  readonly hosts: readonly string[]
  /** It has given up nothing of this epoch and later ones; null = its first segment is gone. */
  readonly holdsFromEpoch: number | null
  readonly damage: readonly JournalDamage[]
  /** Files that a recovery put aside, for somebody to look at. */
  readonly setAside: readonly string[]
}

/** Where records may be lost, and why. */
export interface JournalDamage {
  readonly segment: number | null
  readonly place: string | null
  readonly what: string
}

const segmentReport = z.looseObject({
  segment: z.int().min(0),
  epoch: z.int().nullable(),
  host_id: z.string().nullable(),
  bytes: z.int().min(0),
  damage: z.array(
    z.looseObject({ start: z.int(), end: z.int(), kind: z.enum(['unreadable', 'misplaced']) }),
  ),
  torn_bytes: z.int().min(0),
  joins: z.boolean().nullable(),
})
type SegmentReport = z.infer<typeof segmentReport>
/** Printed last. */
const wholeReport = z.looseObject({
  segments: z.int().min(0),
  missing: z.array(z.int()),
  set_aside: z.array(z.string()),
})

/** Each segment in order, then the whole. */
const verifyLine = z.union([
  segmentReport.transform((segment) => ({ segment, whole: null })),
  wholeReport.transform((whole) => ({ segment: null, whole })),
])

const EXIT_DAMAGED = 1
const EXIT_NO_JOURNAL = 3

/** Throws `not_found` when no journal is there, `refused` when the dump cannot read it. */
export async function readJournal(call: CommandCall, directory: string): Promise<JournalBook> {
  const [events, reports] = await Promise.all([
    runDump(call, directory, [], usageEvent),
    runDump(call, directory, ['--verify'], verifyLine),
  ])
  const segments = reports.flatMap(({ segment }) => segment ?? [])
  const whole = reports.at(-1)?.whole
  if (!whole) throw new CliError('refused', `the dump of ${directory} ended before its last line`)
  const hosts = segments.flatMap(({ host_id }) => host_id ?? [])
  const [first] = segments
  return {
    directory,
    events,
    hosts: [...new Set([...hosts, ...events.map(({ host_id }) => host_id)])],
    holdsFromEpoch: first?.segment === 0 ? first.epoch : null,
    damage: [
      ...(segments.length === 0 ? [{ segment: null, place: null, what: 'it has no segment' }] : []),
      ...whole.missing.map((segment) => ({ segment, place: null, what: 'the segment is missing' })),
      ...segments.flatMap((segment) => damageOf(segment, segment === segments.at(-1))),
    ],
    setAside: whole.set_aside,
  }
}

/** A torn tail of the last segment is a write that is under way, or that a crash cut short. */
function damageOf(report: SegmentReport, isLast: boolean): JournalDamage[] {
  const { segment, bytes, torn_bytes: torn } = report
  const place = (start: number, end: number): string => `bytes ${start} to ${end - 1}`
  return [
    ...report.damage.map(({ start, end, kind }) => {
      return { segment, place: place(start, end), what: kind }
    }),
    ...(torn > 0 && !isLast ? [{ segment, place: place(bytes - torn, bytes), what: 'torn' }] : []),
    ...(report.joins === false
      ? [{ segment, place: null, what: 'it does not follow the segment before it' }]
      : []),
  ]
}

/** Each line of what the dump prints. */
async function runDump<T extends z.ZodType>(
  call: CommandCall,
  directory: string,
  flags: readonly string[],
  line: T,
): Promise<z.infer<T>[]> {
  const entry = join(call.projectRoot, 'gpu-host', 'journal', 'dump.ts')
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', entry, ...flags, directory],
    { stdio: ['ignore', 'pipe', 'pipe'], signal: call.signal },
  )
  const ended = once(child, 'exit')
  const [lines, stderr] = await Promise.all([
    parseLines(directory, createInterface(child.stdout), line),
    text(child.stderr),
    ended,
  ])
  const isVerified = child.exitCode === EXIT_DAMAGED && flags.includes('--verify')
  if (child.exitCode === 0 || isVerified) return lines
  if (child.exitCode === EXIT_NO_JOURNAL) {
    throw new CliError(
      'not_found',
      `there is no journal at ${directory}: it has no segment and no epoch file`,
      "A host's journal is in host/journal of its data directory.",
    )
  }
  throw new CliError('refused', `the journal at ${directory} cannot be read: ${stderr.trim()}`)
}

async function parseLines<T extends z.ZodType>(
  directory: string,
  lines: AsyncIterable<string>,
  schema: T,
): Promise<z.infer<T>[]> {
  const found: z.infer<T>[] = []
  for await (const line of lines) {
    const parsed = schema.safeParse(JSON.parse(line))
    if (parsed.success) found.push(parsed.data)
    else throw new CliError('refused', `the dump of ${directory} says what none does: ${line}`)
  }
  return found
}
