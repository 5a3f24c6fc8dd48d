/**
 * A few uploads at a time, each with a directory of its own that is gone when it is over, whatever
 * happened. Where there is more than one place, no tenant takes the last one of them beside its
 * others.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { errorCodeOf, HostError } from './errors.ts'

export class UploadPlaces {
  readonly #stagingDirectory: string
  readonly #countMax: number
  /** Tenant of each upload that runs; null = the pool's own. */
  readonly #running: (string | null)[] = []

  constructor(stagingDirectory: string, countMax: number) {
    this.#stagingDirectory = stagingDirectory
    this.#countMax = countMax
  }

  /** Rejects with `upload_limit_reached`, or `disk_full` when the work found no room. */
  async run<T>(tenantId: string | null, work: (directory: string) => Promise<T>): Promise<T> {
    const own = this.#running.filter((tenant) => tenant === tenantId).length
    const isFull = this.#running.length >= this.#countMax
    if (isFull || own >= Math.max(1, this.#countMax - 1)) {
      throw new HostError('upload_limit_reached', 'too many uploads at once')
    }
    this.#running.push(tenantId)
    let directory: string | null = null
    try {
      await mkdir(this.#stagingDirectory, { recursive: true, mode: 0o700 })
      directory = await mkdtemp(join(this.#stagingDirectory, 'upload-'))
      return await work(directory)
    } catch (error) {
      if (errorCodeOf(error) !== 'ENOSPC') throw error
      throw new HostError('disk_full', 'the host has no room for the upload', { cause: error })
    } finally {
      this.#running.splice(this.#running.indexOf(tenantId), 1)
      if (directory !== null) await rm(directory, { recursive: true, force: true })
    }
  }
}
