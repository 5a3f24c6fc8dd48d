/**
 * The CLI's one error class. Every expected failure is a CliError with an exit code from this
 * table; anything else that reaches the top is a bug and exits 1 with its stack.
 */
export const EXIT_CODES = {
  /** Of ours, or of the machine: printed with its stack. */
  unexpected: 1,
  usage: 2,
  not_found: 3,
  refused: 4,
  unauthorized: 5,
  unavailable: 6,
  missing_prerequisite: 7,
  books_differ: 8,
  /** Ctrl-C or SIGTERM, before it was done. */
  interrupted: 130,
} as const
export type ExitReason = keyof typeof EXIT_CODES

/** For people, in the order of the codes: help and README have it from here. */
export const EXIT_MEANINGS: Readonly<Record<ExitReason, string>> = {
  unexpected: 'a defect, or a child that does not start',
  usage: 'wrong arguments',
  not_found: 'tenant, key, model or file not found',
  refused: 'understood and refused (invalid adapter, budget spent …)',
  unauthorized: 'no key, or one that may not do this',
  unavailable: 'edge unreachable, at a limit or failing: try again',
  missing_prerequisite: 'a tool or package is missing here',
  books_differ: 'books that must agree do not; each difference was printed',
  interrupted: 'interrupted',
}

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
