/**
 * What a check of `nozzle doctor` is: it looks at one thing and says what it found and, unless all
 * is well, what to do. None changes anything or throws.
 */
import type { CommandCall } from '../lib/command.ts'
import type { DataDir } from '../lib/data-dir.ts'

export interface Finding {
  readonly status: 'ok' | 'warn' | 'fail'
  readonly detail: string
  readonly fix: string | null
}

export interface DoctorPlace {
  readonly call: CommandCall
  readonly env: NodeJS.ProcessEnv
  readonly projectRoot: string
  readonly dir: DataDir
  /** Unix milliseconds. */
  readonly nowMs: () => number
  /** Less than that free is a fault. */
  readonly diskBytesMin?: number
}

export interface DoctorCheck {
  readonly name: string
  run(place: DoctorPlace): Finding | Promise<Finding>
}

export const ok = (detail: string): Finding => ({ status: 'ok', detail, fix: null })
export const warn = (detail: string, fix: string): Finding => ({ status: 'warn', detail, fix })
export const fail = (detail: string, fix: string): Finding => ({ status: 'fail', detail, fix })
