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
  /** Understood and refused: invalid adapter, name taken, limit reached. */
  refused: 4,
  /** No key, or one that may not do this. */
  unauthorized: 5,
  /** The edge cannot be reached or answered 5xx; trying again may help. */
  unavailable: 6,
  /** A tool or package that is needed is missing on this machine. */
  missing_prerequisite: 7,
} as const
export type ExitReason = keyof typeof EXIT_CODES

export class CliError extends Error {
  readonly reason: ExitReason
  /** What to do about it; printed on a line of its own. */
  readonly fix: string | null

  constructor(reason: ExitReason, message: string, fix: string | null = null) {
    super(message)
    this.name = 'CliError'
    this.reason = reason
    this.fix = fix
  }

  get exitCode(): number {
    return EXIT_CODES[this.reason]
  }
}
