/** What a command of the CLI is: its words, its flags, its help, and the function that runs it. */
import type { FlagSpecs, Flags } from './argv.ts'
import type { Output } from './output.ts'
import type { Ask } from './terminal-question.ts'

/** Everything a command may touch besides files, sockets and processes. */
export interface CommandContext {
  readonly env: NodeJS.ProcessEnv
  readonly projectRoot: string
  readonly output: Output
  /** Aborted by Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal
  /** Aborted by a second one: what still waits should not. */
  readonly hurry: AbortSignal
  /** null when stdin is a terminal, and with --no-input. */
  readonly readStdin: (() => Promise<string>) | null
  /** Asks whoever sits at the terminal; null where nobody does, and with --no-input. */
  readonly ask: Ask | null
}

export interface CommandCall extends CommandContext {
  readonly flags: Flags
  readonly positionals: readonly string[]
}

export interface Command {
  /** Words that call it, such as `tenant create`. */
  readonly name: string
  readonly summary: string
  /** As shown in help: `<name>` is needed, `[name]` is not; `<a|b>` is one of these. */
  readonly positionals: readonly string[]
  readonly flags: FlagSpecs
  /** What the flags alone do not say; shown in its own help. */
  readonly details?: string
  readonly examples: readonly string[]
  run(call: CommandCall): Promise<void>
}
