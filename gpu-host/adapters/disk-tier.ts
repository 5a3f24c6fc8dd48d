/**
 * Packs on the host's own disk: a cache of the store, bounded in bytes (half-written files count),
 * least recently used first out, found again after a restart. A pack enters only once it was read
 * back and proven by its digest, which the first read of a process proves again; every further read
 * checks it for damage (pack-reader.ts). A damaged one is dropped.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, open, readdir, rename, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import type { AdapterImage } from '../engine.ts'
import { errorCodeOf, HostError } from '../errors.ts'
import { errorText, type Log } from '../log.ts'
import { digestHex, digestOfHex } from './adapter-digest.ts'
import { PackFileError } from './pack-file.ts'
import { PackReader } from './pack-reader.ts'

const TEMPORARY_PREFIX = '.tmp-'
const PACK_NAME = /^([0-9a-f]{64})\.nzpack$/

export interface DiskTierOptions {
  readonly directory: string
  readonly bytesMax: number
  readonly log: Log
}

export class DiskTier {
  readonly #options: DiskTierOptions
  readonly #reader = new PackReader()
  /** Digest → bytes of its file, least recently used first. */
  readonly #packs: Map<string, number>
  /** Of packs and of files being written. */
  #bytes: number

  private constructor(options: DiskTierOptions, packs: Map<string, number>) {
    this.#options = options
    this.#packs = packs
    this.#bytes = [...packs.values()].reduce((sum, bytes) => sum + bytes, 0)
  }

  /** Takes over what an earlier process left, in the order of its last use. */
  static async open(options: DiskTierOptions): Promise<DiskTier> {
    const { directory } = options
    await mkdir(directory, { recursive: true, mode: 0o700 })
    const found: { digest: string; bytes: number; usedAt: number }[] = []
    for (const name of await readdir(directory)) {
      const hex = PACK_NAME.exec(name)?.[1]
      if (hex !== undefined) {
        const { size, mtimeMs } = await stat(join(directory, name))
        found.push({ digest: digestOfHex(hex), bytes: size, usedAt: mtimeMs })
      } else if (name.startsWith(TEMPORARY_PREFIX)) await rm(join(directory, name), { force: true })
    }
    found.sort((a, b) => a.usedAt - b.usedAt)
    const packs = new Map(found.map(({ digest, bytes }) => [digest, bytes]))
    const tier = new DiskTier(options, packs)
    await tier.#makeRoom()
    return tier
  }

  /** Gets ready to read at once. */
  warm(): void {
    this.#reader.warm()
  }

  get bytes(): number {
    return this.#bytes
  }

  has(digest: string): boolean {
    return this.#packs.has(digest)
  }

  digests(): IterableIterator<string> {
    return this.#packs.keys()
  }

  /** null when it is not here, or no longer whole (then it is dropped). */
  async read(digest: string): Promise<AdapterImage | null> {
    const fileBytes = this.#packs.get(digest)
    if (fileBytes === undefined) return null
    const path = this.#pathOf(digest)
    try {
      const image = await this.#reader.read(path, digest, fileBytes, false)
      this.#touch(digest, path)
      return image
    } catch (error) {
      const isDamaged = error instanceof PackFileError
      if (!isDamaged && errorCodeOf(error) !== 'ENOENT') throw error
      if (isDamaged)
        this.#options.log('warn', 'pack on disk dropped', { digest, reason: errorText(error) })
      await this.#drop(digest)
      return null
    }
  }

  /**
   * Keeps what `source` yields as the pack of `digest`, evicting others, and returns it read back.
   * Rejects with PackFileError when it is not that pack, leaving nothing behind.
   */
  async write(digest: string, source: AsyncIterable<Uint8Array>): Promise<AdapterImage> {
    const temporary = join(this.#options.directory, TEMPORARY_PREFIX + randomUUID())
    let written = 0
    try {
      const file = await open(temporary, 'wx', 0o600)
      try {
        for await (const chunk of source) {
          written += chunk.length
          this.#bytes += chunk.length
          await this.#makeRoom()
          await file.writeFile(chunk)
        }
      } finally {
        await file.close()
      }
      const image = await this.#reader.read(temporary, digest, written, true)
      await rename(temporary, this.#pathOf(digest))
      this.#bytes -= this.#packs.get(digest) ?? 0
      this.#packs.delete(digest)
      this.#packs.set(digest, written)
      return image
    } catch (error) {
      this.#bytes -= written
      await rm(temporary, { force: true })
      throw error
    }
  }

  async #makeRoom(): Promise<void> {
    const { bytesMax } = this.#options
    while (this.#bytes > bytesMax) {
      const [oldest] = this.#packs.keys()
      if (oldest === undefined) {
        const fix = 'raise NOZZLE_DISK_TIER_BYTES_MAX'
        throw new HostError('disk_full', `the disk tier of ${bytesMax} bytes is full; ${fix}`)
      }
      await this.#drop(oldest)
    }
  }

  async #drop(digest: string): Promise<void> {
    const bytes = this.#packs.get(digest)
    if (bytes === undefined) return
    this.#packs.delete(digest)
    this.#reader.forget(digest)
    this.#bytes -= bytes
    await rm(this.#pathOf(digest), { force: true })
  }

  /** The order of use lives in the files' times, so that a restart keeps it. */
  #touch(digest: string, path: string): void {
    const bytes = this.#packs.get(digest)
    if (bytes === undefined) return
    this.#packs.delete(digest)
    this.#packs.set(digest, bytes)
    const now = new Date()
    // Lost with an eviction at the same moment, and then of no use.
    utimes(path, now, now).catch(() => {})
  }

  #pathOf(digest: string): string {
    const hex = digestHex(digest)
    if (hex === null) throw new Error('not a digest')
    return join(this.#options.directory, `${hex}.nzpack`)
  }
}
