/**
 * Tests on the real base model. Where it could not be had they are skipped, with the reason in
 * their title.
 */
import { describe } from 'vitest'
import { baseModelPath, baseModelReason } from './base-model-path.ts'

/** As `describe`. Nothing of `body` but its declarations may run where it is skipped. */
export function describeOnBaseModel(title: string, body: () => void): void {
  const isThere = baseModelPath !== null
  describe.skipIf(!isThere)(isThere ? title : `${title} (skipped: ${baseModelReason})`, body)
}
