/**
 * One JSON line per thing worth knowing. Prompts, completions and keys are never fields; a key that
 * a client put where none belongs, such as a path, is cut.
 */
import { formatLogLine } from '#wire/log-line.ts'
import { withoutKeys } from './auth/stray-key.ts'

/** Least first. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]
export type LogFields = Readonly<Record<string, string | number | boolean | null>>
export type Log = (level: LogLevel, message: string, fields?: LogFields) => void

/** To the console, from `least` on: stderr of the process on Node, Workers Logs in a Worker. */
export function createConsoleLog(least: LogLevel): Log {
  const isWritten = (level: LogLevel): boolean =>
    LOG_LEVELS.indexOf(level) >= LOG_LEVELS.indexOf(least)
  return (level, message, fields = {}) => {
    if (!isWritten(level)) return
    const line = formatLogLine({ at: new Date().toISOString(), level, message, ...fields })
    console.error(withoutKeys(line))
  }
}
