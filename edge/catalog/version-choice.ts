/**
 * Which of a model's versions serves a request while a canary runs. Pure, and the same on every
 * edge: the affinity of a request decides, so requests that share one (a conversation, a user, a
 * client's retries) meet one version for as long as the canary's weight stays or grows.
 */
import type { ResolvedModel, ServedVersion } from '#db/queries/models.ts'
import { hashTexts } from '../hash-text.ts'

const HASHES = 2 ** 32

/** @param affinity what the caller has in common with requests that must not change versions. */
export function chooseVersion(model: ResolvedModel, affinity: string): ServedVersion {
  const { canary } = model
  if (canary === null) return model
  // The version is hashed too: not every canary shall meet the same users.
  const share = hashTexts(canary.versionId, affinity) / HASHES
  return share < canary.weight / 100 ? canary : model
}
