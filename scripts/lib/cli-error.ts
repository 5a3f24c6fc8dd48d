/**
 * The CLI's one error class. Every expected failure is a CliError with an exit code from this
 * table; anything else that reaches the top is a bug and exits 1 with its stack.
 */
export const EXIT_CODES = {
  /** A defect of ours, or of the machine. */
  unexpected: 1,
  /** Wrong arguments; usage is printed. */
  usage: 2,
  /** The named tenant, key, model or file does not exist. */
  not_found: 3,
  /** Understood and refused: invalid adapter, name taken, budget spent, pool already running. */
  refused: 4,
  /** No key, or one that may not do this. */
  unauthorized: 5,
  /** The edge cannot be reached, is at a limit or answered 5xx; trying again may help. */
  unavailable: 6,
  /** A tool or package that is needed is missing on this machine. */
  missing_prerequisite: 7,
  /** Books that must agree do not: each difference was printed. */
  books_differ: 8,
  /** Ended by Ctrl-C or SIGTERM before it was done. */
  interrupted: 130,
} as const
export type ExitReason = keyof typeof EXIT_CODES

export class CliError extends Error {
  override readonly name = 'CliError'
  readonly reason: ExitReason
  /** What to do about it; printed on a line of its own. */
  readonly fix: string | null

  constructor(reason: ExitReason, message: string, fix: string | null = null) {
    super(message)
    this.reason = reason
    this.fix = fix
  }

  get exitCode(): number {
    return EXIT_CODES[this.reason]
  }
}

/** Errors of the parts that know their own remedy (native/build.ts) carry it as `fix`. */
export function toCliError(error: unknown, reason: ExitReason): CliError {
  if (error instanceof CliError) return error
  const message = error instanceof Error ? error.message : String(error)
  const fix = error instanceof Error && 'fix' in error ? error.fix : null
  return new CliError(reason, message, typeof fix === 'string' ? fix : null)
}
