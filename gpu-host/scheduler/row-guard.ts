/**
 * Pure: whether a sequence's rows may be in the step that is about to run. Asked of every sequence
 * before every step: its adapter is in the very slot and load that its lease was given for, and the
 * cells that it goes on from are its tenant's, of its base and of that adapter. By the rules of the
 * books above none of it can be otherwise; if one of them has a bug, a request ends with an error
 * instead of another's words.
 */
import type { SlotLease } from './adapter-port.ts'
import { type KvOwner, kvIdentity } from './kv-identity.ts'

export interface GuardedSequence {
  readonly tenantId: string
  /** Of the adapter that the request asks for; null = the base model alone. */
  readonly digest: string | null
  readonly lease: Pick<SlotLease, 'digest' | 'content' | 'isCurrent'> | null
}

/**
 * Why the rows must not run; null = they may.
 * @param cellsOf kvIdentity that its pages were given out for; null = it has none.
 */
export function findBreach(
  sequence: GuardedSequence,
  baseDigest: string,
  cellsOf: string | null,
): string | null {
  const breach = findSlotBreach(sequence)
  if (breach !== null) return breach
  return cellsOf === kvIdentity(toOwner(sequence, baseDigest)) ? null : 'its cells are of another'
}

/** Of the slot alone, for an engine that keeps its cells to itself. */
export function findSlotBreach({ digest, lease }: GuardedSequence): string | null {
  if (digest === null) return lease === null ? null : 'a request for the base has an adapter'
  if (lease === null) return 'its adapter is in no slot'
  if (lease.digest !== digest) return 'its slot was leased for another adapter'
  return lease.isCurrent() ? null : 'its slot was loaded anew'
}

/** Whose cells a sequence fills. Throws where its adapter is in no slot: they'd be the base's. */
export function toOwner({ tenantId, digest, lease }: GuardedSequence, baseDigest: string): KvOwner {
  if (digest === null) return { tenantId, baseDigest, adapter: null }
  if (lease === null) throw new Error('a sequence without its adapter fills no cells')
  return { tenantId, baseDigest, adapter: { digest: lease.digest, content: lease.content } }
}
