/**
 * Reads packs without holding up anybody: large ones on threads of their own, one pack per thread
 * at a time, so that neither the loop nor the pool that steps and slot copies run on waits for a
 * hash. Threads start when they are needed; an idle one does not keep the process alive.
 */
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import type { AdapterImage } from '../engine.ts'
import { type CheckedPack, PackFileError, readPack } from './pack-file.ts'

/** Up to here hashing takes a tenth of a millisecond, less than the way to a thread and back. */
const INLINE_BYTES_MAX = 192 * 1024
/** Readers leave most cores to the engine. */
const CORES_PER_READER = 4

export interface PackReadRequest {
  readonly path: string
  readonly digest: string
  /** The payload's checksum when it was last proven; null = prove it by its digest. */
  readonly knownCrc32: number | null
}

export type PackReadReply =
  | ({ readonly ok: true } & CheckedPack)
  | { readonly ok: false; readonly damage: string }
  | { readonly ok: false; readonly code: string | null; readonly reason: string }

interface Job extends PackReadRequest {
  resolve(image: AdapterImage): void
  reject(error: Error): void
}

interface Reader {
  readonly worker: Worker
  job: Job | null
}

export class PackReader {
  readonly #readersMax: number
  readonly #readers = new Set<Reader>()
  readonly #queue: Job[] = []
  /** Digest → checksum of each payload that this process has proven. */
  readonly #proven = new Map<string, number>()

  constructor(readersMax = Math.max(1, Math.floor(availableParallelism() / CORES_PER_READER))) {
    this.#readersMax = readersMax
  }

  /** Starts a thread now, so that the first cold adapter does not wait for it. */
  warm(): void {
    if (this.#readers.size === 0) this.#start().worker.unref()
  }

  /**
   * Rejects with PackFileError, or with the file system's error and its code. The digest is proven
   * by the first read of this process and of every file that `isNew`, a checksum afterwards.
   */
  read(path: string, digest: string, fileBytes: number, isNew: boolean): Promise<AdapterImage> {
    if (fileBytes <= INLINE_BYTES_MAX) return readPack(path, digest)
    const knownCrc32 = isNew ? null : (this.#proven.get(digest) ?? null)
    return new Promise((resolve, reject) => {
      this.#queue.push({ path, digest, knownCrc32, resolve, reject })
      this.#next()
    })
  }

  /** The pack is gone: a later one of its digest is proven anew. */
  forget(digest: string): void {
    this.#proven.delete(digest)
  }

  #next(): void {
    const idle = [...this.#readers].find(({ job }) => job === null)
    const reader = idle ?? (this.#readers.size < this.#readersMax ? this.#start() : null)
    if (reader === null) return
    const job = this.#queue.shift()
    if (job === undefined) return
    reader.job = job
    reader.worker.ref()
    const { path, digest, knownCrc32 } = job
    const request: PackReadRequest = { path, digest, knownCrc32 }
    reader.worker.postMessage(request)
  }

  #start(): Reader {
    const worker = new Worker(new URL('./pack-reader-worker.ts', import.meta.url))
    const reader: Reader = { worker, job: null }
    worker.on('message', (reply: PackReadReply) => this.#finish(reader, reply))
    worker.on('error', (error) => this.#lose(reader, error))
    worker.on('exit', () => this.#lose(reader, new Error('the reading thread has ended')))
    this.#readers.add(reader)
    return reader
  }

  #finish(reader: Reader, reply: PackReadReply): void {
    const { job } = reader
    reader.job = null
    reader.worker.unref()
    if (job !== null) this.#settle(job, reply)
    this.#next()
  }

  #settle(job: Job, reply: PackReadReply): void {
    if (reply.ok) {
      this.#proven.set(job.digest, reply.crc32)
      job.resolve(reply.image)
    } else if ('damage' in reply) job.reject(new PackFileError(reply.damage))
    else job.reject(Object.assign(new Error(reply.reason), { code: reply.code }))
  }

  /** Its pack fails; the next one gets a new thread. */
  #lose(reader: Reader, error: Error): void {
    if (!this.#readers.delete(reader)) return
    reader.job?.reject(error)
    this.#next()
  }
}
