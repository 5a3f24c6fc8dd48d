/**
 * Whole files of the journal's directory: read at once, replaced at once.
 */
import { dirname } from 'node:path'
import type { Disk } from './disk.ts'

/** Throws ENOENT where there is none. */
export function readFile(disk: Disk, path: string): Buffer {
  const fd = disk.open(path, 'read')
  try {
    const bytes = Buffer.alloc(disk.size(fd))
    let done = 0
    while (done < bytes.length) {
      const count = disk.read(fd, bytes.subarray(done), done)
      if (count === 0) break
      done += count
    }
    return bytes.subarray(0, done)
  } finally {
    disk.close(fd)
  }
}

/** Ends the name of a copy that is not whole yet. */
export const TEMPORARY_SUFFIX = '.tmp'

/**
 * Replaces `path` at once and for good: a crash leaves the old bytes or the new, never a mixture,
 * and none takes them back once this has returned.
 */
export function replaceFile(disk: Disk, path: string, bytes: Uint8Array): void {
  const temporary = `${path}${TEMPORARY_SUFFIX}`
  const fd = disk.open(temporary, 'replace')
  try {
    writeFully(disk, fd, bytes)
    disk.fsyncSync(fd)
  } finally {
    disk.close(fd)
  }
  disk.rename(temporary, path)
  syncDirectory(disk, dirname(path))
}

/**
 * Replaces `path` at once, without waiting for the disk in the caller's turn: a crash leaves the
 * old bytes or the new.
 */
export async function replaceFileLater(disk: Disk, path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}${TEMPORARY_SUFFIX}`
  const fd = disk.open(temporary, 'replace')
  try {
    writeFully(disk, fd, bytes)
    await new Promise<void>((resolve, reject) => {
      disk.fsync(fd, (error) => (error === null ? resolve() : reject(error)))
    })
  } finally {
    disk.close(fd)
  }
  disk.rename(temporary, path)
}

export function writeFully(disk: Disk, fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += disk.write(fd, bytes.subarray(done))
}

/** Names created, renamed or removed in `directory` survive from here on. */
export function syncDirectory(disk: Disk, directory: string): void {
  const fd = disk.open(directory, 'read')
  try {
    disk.fsyncSync(fd)
  } finally {
    disk.close(fd)
  }
}
