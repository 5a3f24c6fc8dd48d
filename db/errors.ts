/**
 * DatabaseError: what opening a database may refuse. Codes are stable; match on them, not on text.
 */

export type DatabaseErrorCode =
  /** The URL names no kind of database that db knows. */
  | 'database_url_invalid'
  /** This process or another has the PGlite directory open. */
  | 'database_locked'
  /** The PGlite directory cannot be made, locked or read. */
  | 'database_unavailable'

export class DatabaseError extends Error {
  override readonly name = 'DatabaseError'
  readonly code: DatabaseErrorCode

  constructor(code: DatabaseErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
  }
}
