/**
 * One JSON line per thing worth knowing. Prompts, completions and keys are never fields; a key that
 * a client put where none belongs, such as a path, is cut.
 */
import { formatLogLine } from '#wire/log-line.ts'
import { withoutKeys } from './auth/stray-key.ts'

export type LogLevel = 'info' | 'warn' | 'error'
export type LogFields = Readonly<Record<string, string | number | boolean | null>>
export type Log = (level: LogLevel, message: string, fields?: LogFields) => void

/** To the console: stderr of the process on Node, Workers Logs in a Worker. */
export const consoleLog: Log = (level, message, fields = {}) => {
  const line = formatLogLine({ at: new Date().toISOString(), level, message, ...fields })
  console.error(withoutKeys(line))
}
