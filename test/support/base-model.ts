/**
 * The real base model that `npm test` found or fetched. Where it could not be had, the tests that
 * need it are skipped with the reason in their title.
 */
import { describe } from 'vitest'

const path = process.env.NOZZLE_TEST_BASE_MODEL
const reason = process.env.NOZZLE_TEST_BASE_MODEL_MISSING ?? 'NOZZLE_TEST_BASE_MODEL is not set'

export function requireBaseModel(): string {
  if (!path) throw new Error(`no base model: ${reason}`)
  return path
}

/** As `describe`. Nothing of `body` but its declarations may run where it is skipped. */
export function describeOnBaseModel(title: string, body: () => void): void {
  describe.skipIf(!path)(path ? title : `${title} (skipped: ${reason})`, body)
}
