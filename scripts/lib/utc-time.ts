/** Points in time as people give them to flags. */
import { CliError } from './cli-error.ts'

/** Canonical ISO 8601; a date stands for its first moment in UTC. Throws a `usage` error. */
export function toUtcTime(flag: string, text: string): string {
  const time = new Date(text)
  if (/^\d{4}-\d{2}-\d{2}/.test(text) && !Number.isNaN(time.getTime())) return time.toISOString()
  throw new CliError('usage', `--${flag} must be a date or an ISO 8601 time, not "${text}"`)
}
