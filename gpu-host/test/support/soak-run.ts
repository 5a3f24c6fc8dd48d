/**
 * Size, seed and report of the suites that `npm run soak -- --security` runs at full length, and
 * `npm test` at a short one.
 */
import { appendFileSync } from 'node:fs'

export const IS_SOAK = process.env.NOZZLE_SECURITY_SEED !== undefined
export const SEED = Number(process.env.NOZZLE_SECURITY_SEED ?? 1)

export function sized<T>(short: T, full: T): T {
  return IS_SOAK ? full : short
}

/** For the soak's report. */
export function reportRun(name: string, facts: object): void {
  const path = process.env.NOZZLE_SECURITY_REPORT
  if (path !== undefined) appendFileSync(path, `${JSON.stringify({ name, ...facts })}\n`)
}
