/** DatabaseError: what opening a database may refuse. Codes are stable; match on them, not on text. */

export type DatabaseErrorCode =
  /** The URL names no kind of database that db knows. */
  | 'database_url_invalid'
  /** Another process has the PGlite directory open. */
  | 'database_locked'
  /** Something other than a database lies in the way. */
  | 'database_unavailable'

export class DatabaseError extends Error {
  override readonly name = 'DatabaseError'
  readonly code: DatabaseErrorCode

  constructor(code: DatabaseErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
  }
}
