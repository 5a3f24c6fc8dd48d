/**
 * Statements that lost against another one at the same moment, through no fault of either, and that
 * left nothing behind: they are simply made again.
 */

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

/** SQLSTATE of a driver's error, which drizzle wraps as the cause; null when it has none. */
export function sqlState(error: unknown): string | null {
  for (let rest = error; rest instanceof Error; rest = rest.cause) {
    if ('code' in rest && typeof rest.code === 'string') return rest.code
  }
  return null
}
