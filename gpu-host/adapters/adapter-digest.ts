/**
 * The name of an adapter version: a digest of the very files that were uploaded and of the base
 * model that they were converted for. Two uploads of the same bytes are one adapter; the same files
 * on another base model are another.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { adapterDigest as digestPattern } from '../protocol.ts'

const VERSION = 'nozzle-adapter-v1'
const PREFIX = 'sha256:'

export function adapterDigest(
  configSha256: string,
  weightsSha256: string,
  baseDigest: string,
): string {
  const text = `${VERSION}\n${configSha256}\n${weightsSha256}\n${baseDigest}\n`
  return PREFIX + createHash('sha256').update(text).digest('hex')
}

/** Lower-case hex, read as a stream. */
export async function sha256OfFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return hash.digest('hex')
}

/**
 * Lower-case hex. On the thread pool: hashing tens of megabytes here would hold up every stream.
 */
export async function sha256OfBytes(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return Buffer.from(await crypto.subtle.digest('SHA-256', bytes)).toString('hex')
}

/** The hex of a digest, safe as a file name; null for anything else. */
export function digestHex(digest: string): string | null {
  return digestPattern.safeParse(digest).success ? digest.slice(PREFIX.length) : null
}

export function digestOfHex(hex: string): string {
  return PREFIX + hex
}
