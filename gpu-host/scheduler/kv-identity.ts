/**
 * Pure: what filled KV cells are the cells of. Two sequences share pages only where all of it is
 * equal, to the letter: it is compared as a whole and never as a hash, and no name, no slot and
 * nothing that a client chose is part of it.
 */
import { createHash } from 'node:crypto'

export interface KvOwner {
  readonly tenantId: string
  /** Of the base model's file. */
  readonly baseDigest: string
  /** null = the base model alone. */
  readonly adapter: {
    /** Of the files that were deployed. */
    readonly digest: string
    /** Of what is in the slot: the same files may have been converted anew, with another scale. */
    readonly content: string
  } | null
}

/** Goes in front of everything, so that no other use of the same parts can give the same text. */
const DOMAIN = 'nozzle-kv-1'

/** JSON keeps the parts apart, whatever characters are in them. */
export function kvIdentity({ tenantId, baseDigest, adapter }: KvOwner): string {
  const parts = adapter === null ? null : [adapter.digest, adapter.content]
  return JSON.stringify([DOMAIN, tenantId, baseDigest, parts])
}

/** For a cache that takes a salt and no more: the identity, in 64 hex digits. */
export function kvSalt(owner: KvOwner): string {
  return createHash('sha256').update(kvIdentity(owner)).digest('hex')
}
