/**
 * Statements that lost against another one at the same moment, through no fault of either, and that
 * left nothing behind: they are simply made again.
 */
import { sqlState } from '../errors.ts'

/** deadlock_detected, serialization_failure. */
const CONFLICTS = new Set(['40P01', '40001'])
const ATTEMPTS_MAX = 4

/** Makes the statement up to four times; throws what it threw last. */
export async function retryOnConflict<T>(statement: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await statement()
    } catch (error) {
      if (attempt === ATTEMPTS_MAX || !CONFLICTS.has(sqlState(error) ?? '')) throw error
    }
  }
}
