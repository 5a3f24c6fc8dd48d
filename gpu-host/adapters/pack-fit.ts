/** Pure: whether a pack, however whole, can be served by this host's engine as it was started. */
import { HostError } from '../errors.ts'
import type { PackManifest } from './adapter-pack.ts'
import type { AdapterTarget } from './base-shape.ts'

/** Throws `adapter_invalid`. */
export function checkPackFits(manifest: PackManifest, { info, limits }: AdapterTarget): void {
  if (manifest.base_digest !== info.baseDigest) {
    const fix = 'deploy it again'
    throw refuse(`was made for ${manifest.base_model} as it was then; ${fix}`, 'base_digest')
  }
  if (manifest.rank > limits.rankMax) {
    const fix = 'raise NOZZLE_RANK_MAX'
    throw refuse(`has rank ${manifest.rank}, this host serves up to ${limits.rankMax}; ${fix}`, 'r')
  }
  if (manifest.payload_bytes > limits.slotBytes) {
    const bytes = `${manifest.payload_bytes} bytes, a slot has ${limits.slotBytes}`
    throw refuse(`has ${bytes}; raise NOZZLE_RANK_MAX`, 'payload_bytes')
  }
}

function refuse(problem: string, param: string): HostError {
  return new HostError('adapter_invalid', `the adapter ${problem}`, { param })
}
