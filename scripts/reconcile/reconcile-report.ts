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
    journals: journals.map(({ directory, events }) => ({
      directory,
      events: events.length,
      hosts: [...new Set(events.map(({ host_id }) => host_id))],
    })),
    events: comparison.eventCount,
    proven_by_journal: comparison.provenCount,
    no_longer_in_journal: comparison.unprovenCount,
    differences,
  }
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
    `${report.events} events in the ledger; ${report.proven_by_journal} the same in a journal, ` +
      `${report.no_longer_in_journal} no longer in the journal of their host`,
    ...report.journals.map(
      ({ directory, events, hosts }) =>
        `${directory}: ${events} events of ${hosts.join(', ') || 'nobody'}`,
    ),
    '',
    report.agree
      ? 'The books agree.'
      : formatTable(['DIFFERENCE', 'OF', 'FIELD', 'WHAT EACH BOOK SAYS'], rows),
  ].join('\n')
}
