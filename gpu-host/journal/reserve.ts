/**
 * Disk space that is held back so that every open request can be settled on a full disk: a file of
 * bytes that nobody reads. It is given up when an ending cannot be written otherwise, and made
 * again when there is room; until then no request is opened.
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { errorCodeOf } from '../errors.ts'
import { errorText, type Log } from '../log.ts'
import { type Disk, isDiskFull } from './disk.ts'
import { replaceFile, TEMPORARY_SUFFIX } from './durable-file.ts'

/** Between tries that failed, since each may write the whole file. */
const RETRY_MS = 1000
/** Of random bytes: a file system that compresses would hold nothing back for zeros. */
const BLOCK_BYTES = 64 * 1024

export interface ReserveOptions {
  readonly disk: Disk
  readonly log: Log
  readonly directory: string
  readonly bytes: number
}

export class Reserve {
  readonly #options: ReserveOptions
  readonly #path: string
  #isHeld: boolean
  #failedMs = Number.NEGATIVE_INFINITY

  /** Finds what the last run held. */
  constructor(options: ReserveOptions) {
    this.#options = options
    this.#path = join(options.directory, 'reserve')
    this.#isHeld = this.#size() >= options.bytes
  }

  get bytes(): number {
    return this.#options.bytes
  }

  /** True when it is there, made just now if need be. */
  hold(nowMs: number): boolean {
    if (this.#isHeld) return true
    if (Math.abs(nowMs - this.#failedMs) < RETRY_MS) return false
    const { disk, directory, bytes } = this.#options
    // Twice: what is made must not be the last that the disk has.
    this.#isHeld = disk.freeBytes(directory) >= 2 * bytes && this.#make()
    if (!this.#isHeld) this.#failedMs = nowMs
    return this.#isHeld
  }

  #make(): boolean {
    const { disk, log, bytes } = this.#options
    try {
      replaceFile(disk, this.#path, fill(bytes))
      return true
    } catch (error) {
      log('warn', 'journal reserve cannot be made', { reason: errorText(error) })
      this.#remove(this.#path + TEMPORARY_SUFFIX)
      return false
    }
  }

  /** Gives the space back; false when there was none to give. */
  release(): boolean {
    const hasSome = this.#size() > 0
    this.#isHeld = false
    if (!hasSome || !this.#remove(this.#path)) return false
    this.#options.log('error', 'journal reserve given up: the disk is full', {
      bytes: this.#options.bytes,
    })
    return true
  }

  /** Tries `write`, and on a full disk once more without the reserve. Throws what it throws. */
  orWithout<T>(write: () => T): T {
    try {
      return write()
    } catch (error) {
      if (!isDiskFull(error) || !this.release()) throw error
      return write()
    }
  }

  #size(): number {
    try {
      return this.#options.disk.stat(this.#path).size
    } catch (error) {
      if (errorCodeOf(error) === 'ENOENT') return 0
      throw error
    }
  }

  #remove(path: string): boolean {
    try {
      this.#options.disk.unlink(path)
      return true
    } catch {
      return false
    }
  }
}

function fill(bytes: number): Buffer {
  const block = randomBytes(Math.min(bytes, BLOCK_BYTES))
  return Buffer.alloc(bytes, block)
}
