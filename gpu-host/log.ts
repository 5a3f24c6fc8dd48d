/**
 * One JSON line per notable event, on stderr. Never a prompt, a completion, a grant or a secret:
 * callers pass ids, codes and numbers.
 */
import { formatLogLine } from './wire/log-line.ts'

export type LogLevel = 'info' | 'warn' | 'error'
export type LogFields = Record<string, string | number | boolean | null>
export type Log = (level: LogLevel, message: string, fields?: LogFields) => void

export function createLog(write: (line: string) => void, nowMs: () => number): Log {
  return (level, message, fields = {}) => {
    const at = new Date(nowMs()).toISOString()
    write(`${formatLogLine({ at, level, message, ...fields })}\n`)
  }
}

/** Text of anything thrown, with its chain of causes, for the log only. */
export function errorText(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const cause = error.cause === undefined ? '' : ` ← ${errorText(error.cause)}`
  // A parser's message quotes its input, which may be a prompt or an answer.
  const own = error instanceof SyntaxError ? 'not valid JSON' : error.message
  return `${own}${cause}`
}
