/** Hosts as an edge knows them, for tests of the choice among them. */
import type { AdapterTier, HostState } from '../../pool/pick-host.ts'

export const BASE_MODEL = 'base'

/** An idle host; `tiers` says where it has which adapter. */
export function createHostState(
  hostId: string,
  change: Partial<HostState> & { readonly tiers?: Readonly<Record<string, AdapterTier>> } = {},
): HostState {
  const { tiers = {}, ...rest } = change
  return {
    hostId,
    url: `http://${hostId}`,
    baseModel: BASE_MODEL,
    contextLength: 512,
    sequences: 0,
    sequencesMax: 16,
    waitMs: 0,
    weight: 1,
    isSuspect: false,
    tierOf: (digest) => tiers[digest] ?? null,
    ...rest,
  }
}

export function createPool(count: number): HostState[] {
  return Array.from({ length: count }, (_, i) => createHostState(`hst_${i}`))
}

export function createDigest(number: number): string {
  return `sha256:${number.toString(16).padStart(64, '0')}`
}

export function idsOf(hosts: readonly HostState[]): string[] {
  return hosts.map(({ hostId }) => hostId)
}
