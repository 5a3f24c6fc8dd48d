/**
 * Where packs are kept for good, shared by all hosts of a pool. Names are digests, so a stored pack
 * never changes. The directory store is for one machine or a shared file system; an object store
 * implements the same port.
 */
import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { copyFile, glob, mkdir, open, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { errorCodeOf } from '../errors.ts'
import { digestHex, digestOfHex } from './adapter-digest.ts'

export interface AdapterStore {
  /**
   * The pack's bytes, not checked; null when it is not stored. Ends early on abort, by an error.
   */
  get(digest: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | null>
  /** Copies the pack file at `path`. Readers see all of it or nothing; a second put replaces it. */
  put(digest: string, path: string): Promise<void>
}

/** A store that can say what it holds: for moving house, never on the way of a request. */
export interface ListedStore extends AdapterStore {
  digests(): AsyncIterable<string>
}

const PACK_NAME = /^([0-9a-f]{64})\.nzpack$/

export class DirectoryStore implements ListedStore {
  readonly #root: string

  constructor(root: string) {
    this.#root = root
  }

  async get(digest: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | null> {
    const path = this.#pathOf(digest)
    if (path === null) return null
    try {
      const file = await open(path, 'r')
      return file.createReadStream({ signal, highWaterMark: 1024 * 1024 })
    } catch (error) {
      if (errorCodeOf(error) === 'ENOENT') return null
      throw error
    }
  }

  async put(digest: string, path: string): Promise<void> {
    const target = this.#pathOf(digest)
    if (target === null) throw new Error('not a digest')
    const directory = dirname(target)
    await mkdir(directory, { recursive: true, mode: 0o700 })
    const temporary = join(directory, `.tmp-${randomUUID()}`)
    try {
      await copyFile(path, temporary, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE)
      await syncPath(temporary, 'r+')
      await rename(temporary, target)
    } finally {
      await rm(temporary, { force: true })
    }
    // The rename itself must outlive a power cut: the deploy is acknowledged right after.
    await syncPath(directory, 'r')
  }

  async *digests(): AsyncGenerator<string, void, void> {
    for await (const path of glob('??/*.nzpack', { cwd: this.#root })) {
      const hex = PACK_NAME.exec(basename(path))?.[1]
      if (hex !== undefined) yield digestOfHex(hex)
    }
  }

  /** Only hex digits of a checked digest ever reach a path. */
  #pathOf(digest: string): string | null {
    const hex = digestHex(digest)
    return hex === null ? null : join(this.#root, hex.slice(0, 2), `${hex}.nzpack`)
  }
}

async function syncPath(path: string, flags: string): Promise<void> {
  const file = await open(path, flags)
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}
