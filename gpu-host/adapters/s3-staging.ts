/**
 * Where files wait between a client that sends them and the host that converts them: one object per
 * part, `staging/<tenant>/<sha256 of the file>/<number>-<sha256 of the part>` below the prefix. The
 * name says what must be in it, so an upload that was cut off goes on where it was, wherever it
 * goes on, and nothing has to be remembered. What nobody completes is removed after a day.
 */
import { open } from 'node:fs/promises'
import type { Clock } from '../clock.ts'
import { HostError } from '../errors.ts'
import { errorText, type Log } from '../log.ts'
import { UPLOAD_PART_BYTES, type UploadFile, type UploadFiles } from '../protocol.ts'
import { sha256OfBytes, sha256OfFile } from './adapter-digest.ts'
import { inParallel } from './in-parallel.ts'
import type { S3Bucket } from './s3-bucket.ts'
import { S3Error } from './s3-error.ts'

/** Time enough for the parts of a slow line; who needs longer asks for new URLs. */
const URL_TTL_S = 900
const AT_ONCE = 4
const SWEEP_EVERY_MS = 3_600_000
const ABANDONED_MS = 24 * 3_600_000

export interface StagingPlan {
  readonly bytes_staged: number
  readonly expires_at: string
  readonly parts: {
    file: 'config' | 'weights'
    index: number
    url: string
    headers: Record<string, string>
  }[]
}

export interface StagingArea {
  plan(tenantId: string, files: UploadFiles): Promise<StagingPlan>
  /** Puts the file together and proves it. Rejects with `upload_incomplete`. */
  fetch(tenantId: string, file: UploadFile, path: string): Promise<void>
  /** Never rejects: what stays is removed later. */
  discard(tenantId: string, files: UploadFiles): Promise<void>
}

export interface S3StagingOptions {
  readonly bucket: S3Bucket
  readonly clock: Clock
  readonly log: Log
}

interface Part {
  readonly index: number
  readonly key: string
  readonly bytes: number
  /** Lower-case hex. */
  readonly sha256: string
}

export class S3Staging implements StagingArea {
  readonly #options: S3StagingOptions

  constructor(options: S3StagingOptions) {
    this.#options = options
  }

  async plan(tenantId: string, files: UploadFiles): Promise<StagingPlan> {
    const expiresAtMs = this.#options.clock.nowMs() + URL_TTL_S * 1000
    const parts: StagingPlan['parts'] = []
    let bytesStaged = 0
    for (const name of ['config', 'weights'] as const) {
      const staged = await this.#list(tenantId, files[name])
      for (const part of partsOf(tenantId, files[name])) {
        if (staged.get(part.key) === part.bytes) bytesStaged += part.bytes
        else parts.push({ file: name, index: part.index, ...(await this.#sign(part)) })
      }
    }
    const expires_at = new Date(expiresAtMs).toISOString()
    return { bytes_staged: bytesStaged, expires_at, parts }
  }

  async fetch(tenantId: string, file: UploadFile, path: string): Promise<void> {
    const output = await open(path, 'wx', 0o600)
    try {
      await inParallel(partsOf(tenantId, file), AT_ONCE, async (part) => {
        const bytes = await this.#get(part)
        await output.write(bytes, 0, bytes.length, part.index * UPLOAD_PART_BYTES)
      })
    } finally {
      await output.close()
    }
    if ((await sha256OfFile(path)) === file.sha256) return
    // Each part is what it was said to be, so the client has cut up another file than it named.
    throw new HostError('invalid_request', 'the parts are not those of the file', {
      param: 'files.sha256',
    })
  }

  async discard(tenantId: string, files: UploadFiles): Promise<void> {
    const keys = [files.config, files.weights].flatMap((file) => partsOf(tenantId, file))
    try {
      await inParallel(keys, AT_ONCE, ({ key }) => this.#delete(key))
    } catch (error) {
      this.#options.log('warn', 'staged files not removed', { reason: errorText(error) })
    }
  }

  /** Removes what nobody has completed; every host may. Returns how many objects. */
  async sweep(): Promise<number> {
    const { bucket, clock } = this.#options
    let count = 0
    for await (const { key, modifiedAtMs } of bucket.list('staging/')) {
      if (clock.nowMs() - modifiedAtMs < ABANDONED_MS) continue
      await this.#delete(key)
      count += 1
    }
    return count
  }

  /** Sweeps now and then, for as long as the process lives. */
  keepSwept(): void {
    const { clock, log } = this.#options
    clock.setTimer(SWEEP_EVERY_MS, () => {
      this.keepSwept()
      this.sweep().then(
        (count) => count > 0 && log('info', 'abandoned uploads removed', { objects: count }),
        (error: unknown) => log('warn', 'staging not swept', { reason: errorText(error) }),
      )
    })
  }

  async #list(tenantId: string, file: UploadFile): Promise<Map<string, number>> {
    const found = new Map<string, number>()
    try {
      for await (const { key, bytes } of this.#options.bucket.list(directoryOf(tenantId, file))) {
        found.set(key, bytes)
      }
    } catch (error) {
      throw toUploadError(error)
    }
    return found
  }

  /** The store itself refuses other bytes than those, and more or fewer. */
  async #sign(part: Part): Promise<{ url: string; headers: Record<string, string> }> {
    const checksum = Buffer.from(part.sha256, 'hex').toString('base64')
    const headers = { 'x-amz-checksum-sha256': checksum }
    const bound = { ...headers, 'content-length': String(part.bytes) }
    const call = { method: 'PUT', key: part.key, headers: bound } as const
    return { url: await this.#options.bucket.presign(call, URL_TTL_S), headers }
  }

  async #get({ key, bytes: length, sha256 }: Part): Promise<Uint8Array> {
    try {
      const bytes = await this.#options.bucket.sendForBytes({ method: 'GET', key }, length)
      if (bytes.length === length && (await sha256OfBytes(bytes)) === sha256) return bytes
      // Not every store checks what it was given; away with it, so that it is sent again.
      await this.#delete(key)
    } catch (error) {
      if (!(error instanceof S3Error && error.code === 'NoSuchKey')) throw toUploadError(error)
    }
    throw new HostError('upload_incomplete', 'not all parts of the files have arrived')
  }

  async #delete(key: string): Promise<void> {
    await this.#options.bucket.sendForText({ method: 'DELETE', key })
  }
}

function directoryOf(tenantId: string, file: UploadFile): string {
  return `staging/${tenantId}/${file.sha256}/`
}

function partsOf(tenantId: string, file: UploadFile): Part[] {
  return file.part_sha256.map((sha256, index) => ({
    index,
    key: `${directoryOf(tenantId, file)}${String(index).padStart(5, '0')}-${sha256}`,
    bytes: Math.min(UPLOAD_PART_BYTES, file.bytes - index * UPLOAD_PART_BYTES),
    sha256,
  }))
}

function toUploadError(error: unknown): unknown {
  if (!(error instanceof S3Error)) return error
  const message = 'the adapter store does not answer at the moment'
  return new HostError('store_unavailable', message, { cause: error })
}
