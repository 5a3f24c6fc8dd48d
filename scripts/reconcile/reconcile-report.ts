/** The report of `nozzle reconcile`, as one JSON document and as text. Pure. */
import type { BookDifference } from '../lib/edge-replies.ts'
import { formatTable } from '../lib/output.ts'
import type { BookComparison, Period } from './compare-books.ts'
import type { JournalBook } from './journal-dump.ts'

export type ReconcileReport = ReturnType<typeof toReconcileReport>

export function toReconcileReport(found: {
  readonly period: Period
  readonly journals: readonly JournalBook[]
  readonly comparison: BookComparison
  /** Those that the database found among its own books. */
  readonly own: readonly BookDifference[]
}) {
  const { period, journals, comparison, own } = found
  const differences = [...comparison.differences, ...own]
  return {
    start: new Date(period.startMs).toISOString(),
    end: new Date(period.endMs).toISOString(),
    agree: differences.length === 0,
    journals: journals.map(({ directory, events, hosts }) => ({
      directory,
      events: events.length,
      hosts,
    })),
    events: comparison.eventCount,
    /** These five sum to `events`. */
    proven_by_journal: comparison.provenCount,
    differing_from_journal: comparison.differingCount,
    no_longer_in_journal: comparison.givenUpCount,
    without_journal: comparison.withoutJournalCount,
    written_by_edge: comparison.edgeCount,
    warnings: warningsOf(journals, comparison),
    differences,
  }
}

/** What is no difference, and yet keeps the books from being proved. */
function warningsOf(journals: readonly JournalBook[], comparison: BookComparison): string[] {
  const hostEvents = comparison.eventCount - comparison.edgeCount
  const provesNothing = journals.length > 0 && comparison.provenCount === 0 && hostEvents > 0
  return [
    ...(provesNothing
      ? [
          `the journals given prove none of the ${hostEvents} events of hosts: ` +
            'only the books of the database were compared',
        ]
      : []),
    ...journals.flatMap(({ directory, setAside }) =>
      setAside.map((file) => `${directory}: a recovery has set aside ${file}; look at it`),
    ),
  ]
}

export function reconcileToText(report: ReconcileReport): string {
  const rows = report.differences.map(({ kind, subject, field, books }) => [
    kind,
    subject,
    field ?? '-',
    Object.entries(books)
      .map(([book, says]) => `${book}: ${says ?? 'nothing'}`)
      .join('   '),
  ])
  return [
    `${report.start} to ${report.end}`,
    describeCounts(report),
    ...report.journals.map(
      ({ directory, events, hosts }) =>
        `${directory}: ${events} events of ${hosts.join(', ') || 'nobody'}`,
    ),
    ...report.warnings.map((warning) => `WARNING: ${warning}`),
    '',
    report.agree
      ? agreement(report)
      : formatTable(['DIFFERENCE', 'OF', 'FIELD', 'WHAT EACH BOOK SAYS'], rows),
  ].join('\n')
}

function describeCounts(report: ReconcileReport): string {
  const kinds: [number, string][] = [
    [report.differing_from_journal, 'otherwise or missing there'],
    [report.without_journal, 'of hosts whose journal was not given'],
    [report.written_by_edge, 'written by the edge'],
  ]
  return [
    `${report.events} events in the ledger: ${report.proven_by_journal} the same in a journal`,
    `${report.no_longer_in_journal} no longer in the journal of their host`,
    ...kinds.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`),
  ].join(', ')
}

function agreement({ events, proven_by_journal, written_by_edge }: ReconcileReport): string {
  const unproven = events - proven_by_journal - written_by_edge
  if (unproven === 0) return 'The books agree.'
  return `The books agree; ${unproven} of ${events} events are not proven by a journal.`
}
