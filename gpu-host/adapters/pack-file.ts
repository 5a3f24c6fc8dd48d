/**
 * Pack files on disk (layout: adapter-pack.ts). Nothing of a pack is believed before it is checked:
 * the manifest carries its own seal, the payload's hash is in the manifest, the size of the file
 * follows from both, and the digest must be the one that was asked for.
 */
import { createHash } from 'node:crypto'
import { type FileHandle, open } from 'node:fs/promises'
import { z } from 'zod'
import type { AdapterImage } from '../engine.ts'
import {
  PACK_MAGIC,
  PACK_MANIFEST_BYTES_MAX,
  PACK_PAYLOAD_ALIGN,
  type PackManifest,
  packManifest,
} from './adapter-pack.ts'
import { readFully } from './read-fully.ts'
import { readHashed } from './read-hashed.ts'

const MAGIC_BYTES = 8
const PREFIX_BYTES = MAGIC_BYTES + 4
/** Read at once; the manifest of a model with 32 layers takes about 30 KB. */
const HEAD_BYTES = 64 * 1024

/** As the file has it: with a hash over the rest, so that no scale or offset can be altered. */
const sealedManifest = packManifest.extend({ seal: z.string() })

/** `code` is stable. `reason` is for the log: a tenant cannot mend a stored pack. */
export class PackFileError extends Error {
  override readonly name = 'PackFileError'
  readonly code = 'pack_damaged'
  readonly reason: string

  constructor(reason: string) {
    super(`the pack is damaged: ${reason}`)
    this.reason = reason
  }
}

/** Writes and syncs; the caller renames it into place. */
export async function writePack(path: string, { manifest, payload }: AdapterImage): Promise<void> {
  const text = toText(manifest)
  if (text.length > PACK_MANIFEST_BYTES_MAX) throw new Error('the manifest is too long for a pack')
  const head = Buffer.alloc(payloadOffset(text.length))
  head.write(PACK_MAGIC, 'latin1')
  head.writeUInt32LE(text.length, MAGIC_BYTES)
  text.copy(head, PREFIX_BYTES)
  const file = await open(path, 'wx', 0o600)
  try {
    await file.writeFile(head)
    await file.writeFile(payload)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Manifest → file size. Each load into a slot asks; serialising takes a part of a millisecond. */
const fileBytes = new WeakMap<PackManifest, number>()

/** Size of the file that `writePack` makes of it. */
export function packFileBytes(manifest: PackManifest): number {
  const known = fileBytes.get(manifest)
  if (known !== undefined) return known
  const bytes = payloadOffset(toText(manifest).length) + manifest.payload_bytes
  fileBytes.set(manifest, bytes)
  return bytes
}

/** Manifest → its seal. */
const contents = new WeakMap<PackManifest, string>()

/**
 * Names what the pack does to an answer, to the bit: weights, ranks, scales and base. The digest
 * names the files that it was made of; this is what was made of them.
 */
export function packContent(manifest: PackManifest): string {
  const known = contents.get(manifest)
  if (known !== undefined) return known
  const content = sealOf(manifest)
  contents.set(manifest, content)
  return content
}

export interface CheckedPack {
  readonly image: AdapterImage
  /** Of the payload. */
  readonly crc32: number
}

/** Rejects with PackFileError, or ENOENT. Hashes the payload on the calling thread. */
export async function readPack(path: string, digest: string): Promise<AdapterImage> {
  return (await readCheckedPack(path, digest, null)).image
}

/**
 * The same. `knownCrc32`: the payload's, from when this pack's digest was last proven; a disk that
 * damages it since is found out by that as well, at a small part of the cost. null proves anew.
 */
export async function readCheckedPack(
  path: string,
  digest: string,
  knownCrc32: number | null,
): Promise<CheckedPack> {
  const file = await open(path, 'r')
  try {
    const { manifest, offset } = await readChecked(file, digest)
    const payload = readHashed(file.fd, offset, manifest.payload_bytes, knownCrc32 === null)
    if (payload === null) throw new PackFileError('the payload is cut off')
    const isRight =
      knownCrc32 === null
        ? payload.sha256 === manifest.payload_sha256
        : payload.crc32 === knownCrc32
    if (!isRight) throw new PackFileError('the payload was altered')
    return { image: { manifest, payload: payload.bytes }, crc32: payload.crc32 }
  } finally {
    await file.close()
  }
}

/**
 * The manifest of a file whose size is right; its payload is not read. Rejects as readPack does.
 */
export async function readPackManifest(path: string, digest: string): Promise<PackManifest> {
  const file = await open(path, 'r')
  try {
    return (await readChecked(file, digest)).manifest
  } finally {
    await file.close()
  }
}

async function readChecked(
  file: FileHandle,
  digest: string,
): Promise<{ manifest: PackManifest; offset: number }> {
  const { size } = await file.stat()
  const head = Buffer.alloc(Math.min(HEAD_BYTES, size))
  const { bytesRead } = await file.read(head, 0, head.length, 0)
  if (bytesRead < PREFIX_BYTES || head.toString('latin1', 0, MAGIC_BYTES) !== PACK_MAGIC) {
    throw new PackFileError('it does not begin as one')
  }
  const length = head.readUInt32LE(MAGIC_BYTES)
  if (length > PACK_MANIFEST_BYTES_MAX) throw new PackFileError('the manifest is too long')
  const isInHead = PREFIX_BYTES + length <= bytesRead
  const text = isInHead
    ? head.subarray(PREFIX_BYTES, PREFIX_BYTES + length)
    : await readFully(file, PREFIX_BYTES, length)
  if (text === null) throw new PackFileError('the manifest is cut off')
  const manifest = parseManifest(text)
  if (manifest.digest !== digest) throw new PackFileError('it holds another adapter')
  const offset = payloadOffset(length)
  if (size !== offset + manifest.payload_bytes) {
    throw new PackFileError(`${size} bytes, expected ${offset + manifest.payload_bytes}`)
  }
  return { manifest, offset }
}

function parseManifest(text: Buffer): PackManifest {
  let value: unknown
  try {
    value = JSON.parse(text.toString('utf8'))
  } catch {
    throw new PackFileError('the manifest is not JSON')
  }
  const parsed = sealedManifest.safeParse(value)
  if (!parsed.success) throw new PackFileError('the manifest is not one of format 1')
  const { seal, ...manifest } = parsed.data
  if (seal !== sealOf(manifest)) throw new PackFileError('the manifest was altered')
  return manifest
}

function toText(manifest: PackManifest): Buffer {
  return Buffer.from(JSON.stringify({ ...manifest, seal: sealOf(manifest) }))
}

/** Over the parsed value, whose keys stand in the schema's order. */
function sealOf(manifest: PackManifest): string {
  return createHash('sha256')
    .update(JSON.stringify(packManifest.parse(manifest)))
    .digest('hex')
}

function payloadOffset(manifestBytes: number): number {
  return Math.ceil((PREFIX_BYTES + manifestBytes) / PACK_PAYLOAD_ALIGN) * PACK_PAYLOAD_ALIGN
}
