/**
 * Packs in a bucket of an S3-compatible store, as `packs/<2 hex>/<64 hex>.nzpack` below the prefix.
 * Names are digests, so an object never changes its meaning: a lost race writes the same bytes
 * again, and a put may replace a damaged one. Readers never see half an object, S3 sees to that.
 */
import { open, stat } from 'node:fs/promises'
import { digestHex, digestOfHex } from './adapter-digest.ts'
import { inParallel } from './in-parallel.ts'
import { readFully } from './read-fully.ts'
import type { S3Bucket } from './s3-bucket.ts'
import { S3Error } from './s3-error.ts'
import { textOf } from './s3-xml.ts'
import type { ListedStore } from './store-tier.ts'

/** Held in memory while it is sent; S3 wants 5 MiB at least, and 10,000 parts at most. */
const PART_BYTES = 16 * 1024 * 1024
const PARTS_AT_ONCE = 3
/** Broken reads that one fetch bears in all, and those in a row that brought nothing. */
const BREAKS_MAX = 8
const IDLE_BREAKS_MAX = 3

const PACK_KEY = /^packs\/..\/([0-9a-f]{64})\.nzpack$/

export class S3Store implements ListedStore {
  readonly #bucket: S3Bucket
  readonly #partBytes: number

  /** @param partBytes larger packs are sent in parts of this size. */
  constructor(bucket: S3Bucket, partBytes = PART_BYTES) {
    this.#bucket = bucket
    this.#partBytes = partBytes
  }

  async get(digest: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | null> {
    const hex = digestHex(digest)
    if (hex === null) return null
    const key = toKey(hex)
    try {
      return this.#read(await this.#bucket.send({ method: 'GET', key, signal }), key, signal)
    } catch (error) {
      if (error instanceof S3Error && error.code === 'NoSuchKey') return null
      throw error
    }
  }

  async put(digest: string, path: string): Promise<void> {
    const hex = digestHex(digest)
    if (hex === null) throw new Error('not a digest')
    const { size } = await stat(path)
    const file = await open(path, 'r')
    try {
      const read = async (position: number): Promise<Uint8Array<ArrayBuffer>> => {
        const length = Math.min(this.#partBytes, size - position)
        const bytes = await readFully(file, position, length)
        if (bytes === null) throw new Error('the pack file was cut off while it was stored')
        return bytes
      }
      if (size > this.#partBytes) await this.#putParts(toKey(hex), size, read)
      else {
        await this.#bucket.sendForText({ method: 'PUT', key: toKey(hex), body: await read(0) })
      }
    } finally {
      await file.close()
    }
  }

  async *digests(): AsyncGenerator<string, void, void> {
    for await (const { key } of this.#bucket.list('packs/')) {
      const hex = PACK_KEY.exec(key)?.[1]
      if (hex !== undefined) yield digestOfHex(hex)
    }
  }

  /** Goes on behind what was read when the connection breaks. */
  async *#read(
    first: Response,
    key: string,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array, void, void> {
    const bytesTotal = Number(first.headers.get('content-length') ?? Number.NaN)
    const etag = first.headers.get('etag')
    let response = first
    let position = 0
    let idleBreaks = 0
    for (let breaks = 1; ; breaks += 1) {
      const from = position
      let reason: unknown = null
      try {
        for await (const chunk of response.body ?? []) {
          position += chunk.byteLength
          yield chunk
        }
      } catch (error) {
        reason = error
      }
      signal.throwIfAborted()
      if (reason === null && (position === bytesTotal || Number.isNaN(bytesTotal))) return
      idleBreaks = position === from ? idleBreaks + 1 : 0
      const isStuck = idleBreaks >= IDLE_BREAKS_MAX || breaks >= BREAKS_MAX
      if (isStuck || etag === null || position > bytesTotal) {
        throw new S3Error('broken_read', 0, `after ${position} of ${bytesTotal} bytes`, reason)
      }
      const headers = { range: `bytes=${position}-`, 'if-match': etag }
      response = await this.#bucket.send({ method: 'GET', key, headers, signal })
      if (response.status !== 206)
        throw new S3Error('broken_read', 0, 'it cannot go on with a read')
    }
  }

  async #putParts(
    key: string,
    size: number,
    read: (position: number) => Promise<Uint8Array<ArrayBuffer>>,
  ): Promise<void> {
    const bucket = this.#bucket
    const begun = await bucket.sendForText({ method: 'POST', key, query: { uploads: '' } })
    const uploadId = textOf(begun.text, 'UploadId')
    if (uploadId === null) throw new S3Error('not_s3', 200, 'it began no upload in parts')
    try {
      const positions = Array.from(
        { length: Math.ceil(size / this.#partBytes) },
        (_, index) => index * this.#partBytes,
      )
      const tags = await inParallel(positions, PARTS_AT_ONCE, async (position, index) => {
        const query = { partNumber: String(index + 1), uploadId }
        const body = await read(position)
        const { headers } = await bucket.sendForText({ method: 'PUT', key, query, body })
        return headers.get('etag') ?? ''
      })
      const body = new TextEncoder().encode(toManifest(tags))
      await bucket.sendForText({ method: 'POST', key, query: { uploadId }, body })
    } catch (error) {
      // Else its parts would be stored, and billed, unseen.
      await bucket.sendForText({ method: 'DELETE', key, query: { uploadId } }).catch(() => {})
      throw error
    }
  }
}

function toKey(hex: string): string {
  return `packs/${hex.slice(0, 2)}/${hex}.nzpack`
}

function toManifest(tags: readonly string[]): string {
  const parts = tags.map((tag, index) => {
    const etag = tag.replaceAll('"', '&quot;')
    return `<Part><PartNumber>${index + 1}</PartNumber><ETag>${etag}</ETag></Part>`
  })
  return `<CompleteMultipartUpload>${parts.join('')}</CompleteMultipartUpload>`
}
