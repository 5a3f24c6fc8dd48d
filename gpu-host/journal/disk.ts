/**
 * The calls that the journal makes on a file system, and no more: the seam at which tests put a
 * disk that fills up, fails, or loses what was not fsynced (test/support/simulated-disk.ts). Errors
 * are Node's own, matched by `code`.
 */
import {
  closeSync,
  fstatSync,
  fsync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  statfsSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { errorCodeOf } from '../errors.ts'
import { lockJournal } from './journal-lock.ts'

/**
 * `read`: a file, or a directory to fsync its entries. `create`: a new file, appended to; fails
 * with EEXIST. `replace`: an empty file, new or emptied.
 */
export type OpenMode = 'read' | 'create' | 'replace'

export interface Disk {
  makeDirectory(path: string): void
  /** Names, in no order. */
  list(directory: string): string[]
  stat(path: string): { readonly size: number; readonly mtimeMs: number }
  open(path: string, mode: OpenMode): number
  /** At the end of the file; returns how many bytes were taken, at least one. */
  write(fd: number, bytes: Uint8Array): number
  /** Returns how many bytes were read; 0 at the end of the file. */
  read(fd: number, into: Uint8Array, position: number): number
  size(fd: number): number
  truncate(fd: number, size: number): void
  /** After an error nothing is known of what was written, and a later success proves nothing. */
  fsync(fd: number, done: (error: Error | null) => void): void
  fsyncSync(fd: number): void
  close(fd: number): void
  /** Replaces `to` at once. */
  rename(from: string, to: string): void
  unlink(path: string): void
  /** Bytes that this user may still write where `directory` is. */
  freeBytes(directory: string): number
  /**
   * Held until the returned release, or the end of the process. Throws `journal_locked` while
   * anybody holds it.
   */
  lock(directory: string): () => void
}

const FLAGS: Readonly<Record<OpenMode, string>> = { read: 'r', create: 'ax', replace: 'w' }

export const nodeDisk: Disk = {
  makeDirectory: (path) => {
    mkdirSync(path, { recursive: true, mode: 0o700 })
  },
  list: (directory) => readdirSync(directory),
  stat: (path) => statSync(path),
  open: (path, mode) => openSync(path, FLAGS[mode], 0o600),
  write: (fd, bytes) => writeSync(fd, bytes),
  read: (fd, into, position) => readSync(fd, into, 0, into.length, position),
  size: (fd) => fstatSync(fd).size,
  truncate: (fd, size) => ftruncateSync(fd, size),
  fsync: (fd, done) => fsync(fd, done),
  fsyncSync: (fd) => fsyncSync(fd),
  close: (fd) => closeSync(fd),
  rename: (from, to) => renameSync(from, to),
  unlink: (path) => unlinkSync(path),
  freeBytes: (directory) => {
    const { bavail, bsize } = statfsSync(directory)
    return bavail * bsize
  },
  lock: lockJournal,
}

/** Of the disk or of this user's quota: room may come back. */
export function isDiskFull(error: unknown): boolean {
  const code = errorCodeOf(error)
  return code === 'ENOSPC' || code === 'EDQUOT'
}
