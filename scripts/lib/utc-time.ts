/** Points in time as people give them to flags. */
import type { Flags } from './argv.ts'
import { CliError } from './cli-error.ts'

/** Canonical ISO 8601; a date stands for its first moment in UTC. Throws a `usage` error. */
export function toUtcTime(flag: string, text: string): string {
  const time = new Date(text)
  if (/^\d{4}-\d{2}-\d{2}/.test(text) && !Number.isNaN(time.getTime())) return time.toISOString()
  throw new CliError('usage', `--${flag} must be a date or an ISO 8601 time, not "${text}"`)
}

/** `--start` and `--end`, Unix milliseconds; without them the current month in UTC so far. */
export function readPeriod(flags: Flags): { readonly startMs: number; readonly endMs: number } {
  const read = (name: string): number | null => {
    const text = flags.text(name)
    return text === undefined ? null : Date.parse(toUtcTime(name, text))
  }
  const now = new Date()
  const startMs = read('start') ?? Date.UTC(now.getUTCFullYear(), now.getUTCMonth())
  const endMs = read('end') ?? now.getTime()
  // Against an end that nobody gave, the order would be no news.
  if (flags.text('end') === undefined) refuseFuture(flags, now)
  if (startMs >= endMs) throw new CliError('usage', '--start must be before --end')
  return { startMs, endMs }
}

/** Throws a `usage` error when `--start` is after `now`: nothing can have been used there. */
export function refuseFuture(flags: Flags, now: Date): void {
  const start = flags.text('start')
  if (start === undefined || Date.parse(toUtcTime('start', start)) <= now.getTime()) return
  throw new CliError('usage', `--start lies in the future: ${toUtcTime('start', start)}`)
}
