/**
 * DatabaseError: what opening a database may refuse, and that it does not answer. Codes are stable;
 * match on them, not on text.
 */

export type DatabaseErrorCode =
  /** The URL names no kind of database that db knows. */
  | 'database_url_invalid'
  /** This process or another has the PGlite directory open. */
  | 'database_locked'
  /** The PGlite directory cannot be made, locked or read; or: the database does not answer now. */
  | 'database_unavailable'

export class DatabaseError extends Error {
  override readonly name = 'DatabaseError'
  readonly code: DatabaseErrorCode

  constructor(code: DatabaseErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
  }
}

/**
 * SQLSTATE classes that say nothing about the statement: no connection (08), who may connect (28),
 * an unknown database (3D), too few resources (53), an operator's doing such as a shutdown or a
 * cancel (57), the system (58), a broken server (F0, XX), and what another try may get past: a
 * conflict with other statements (40), a lock (55), a server that only reads for now (25).
 */
const OUTAGE_CLASSES = ['08', '25', '28', '3D', '40', '53', '55', '57', '58', 'F0', 'XX']

/** Whether a failed statement tells of the database, not of itself: another try may succeed. */
export function isOutage(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) {
    if (at instanceof DatabaseError) return at.code === 'database_unavailable'
  }
  return OUTAGE_CLASSES.includes(sqlState(error)?.slice(0, 2) ?? '')
}

/** SQLSTATE of text that no column can hold: the character NUL, or half of a surrogate pair. */
const BAD_TEXT_STATES = ['22021', '22P05']

/** Whether a statement failed for text in its values that PostgreSQL does not take. */
export function isBadText(error: unknown): boolean {
  return BAD_TEXT_STATES.includes(sqlState(error) ?? '')
}

/** What the database answered instead of a result; null when it said nothing. */
export function sqlState(error: unknown): string | null {
  for (let at = error; at instanceof Error; at = at.cause) {
    const code = 'code' in at ? String(at.code) : ''
    // Five signs with a digit; codes of the operating system, such as EPIPE, have none.
    if (/^(?=.*\d)[0-9A-Z]{5}$/.test(code)) return code
  }
  return null
}
