/**
 * A disk in memory that may lose what was not fsynced, for tests of power loss, full disks and
 * failing fsyncs.
 *
 * What `powerLoss` leaves of a file: each page written since the last fsync is the old one, the
 * new one, or torn between them at a sector; the length is the old or the new, with zeros where no
 * page arrived. Of a directory: a prefix of the names created, replaced and removed since its last
 * fsync, since file systems journal those in order. `kill` is the death of the process alone:
 * everything written stays. A failed fsync leaves its pages clean and unwritten, as Linux does:
 * they can be read, a later fsync succeeds, and a power loss takes them.
 */
import { dirname } from 'node:path'
import type { Disk, OpenMode } from '../../journal/disk.ts'

const PAGE_BYTES = 4096
const SECTOR_BYTES = 512

export interface DiskCall {
  readonly op: Exclude<keyof Disk, 'close' | 'freeBytes' | 'size' | 'lock'>
  readonly path: string
  /** Calls so far, from 0: the same run makes the same calls. */
  readonly number: number
}

/** Called before each call that may fail; what it returns is thrown, or handed to `fsync`. */
export type DiskFault = (call: DiskCall) => Error | null

export interface SimulatedDiskOptions {
  /** 0 ≤ x < 1; decides what a power loss leaves. */
  readonly random: () => number
  /** All files together; a write beyond it takes what fits, then fails with ENOSPC. */
  readonly capacityBytes?: number
  readonly fault?: DiskFault
  /** When an fsync takes effect and answers; by default in the next microtask. */
  readonly defer?: (run: () => void) => void
  readonly nowMs?: () => number
}

class Inode {
  bytes = new Uint8Array(0)
  size = 0
  mtimeMs = 0
  /** What the platters hold. */
  durable = new Uint8Array(0)
  readonly dirtyPages = new Set<number>()
  /** Fsyncs begun, and the latest begun of those done: one that was overtaken adds nothing. */
  syncsBegun = 0
  syncDone = 0
}

interface DirectoryChange {
  readonly path: string
  readonly inode: Inode | null
}

class Directory {
  readonly names = new Map<string, Inode>()
  readonly durable = new Map<string, Inode>()
  /** A rename is one change of two names. */
  pending: (readonly DirectoryChange[])[] = []
}

type Handle =
  | { readonly inode: Inode; readonly path: string }
  | { readonly directory: Directory; readonly path: string }

export function diskError(code: string, call: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: simulated, ${call}`), { code })
}

export class SimulatedDisk implements Disk {
  readonly #options: SimulatedDiskOptions
  readonly #directories = new Map<string, Directory>()
  #handles = new Map<number, Handle>()
  #locks = new Set<string>()
  #calls = 0
  #fds = 0
  /** A process that died hears of no fsync any more. */
  #life = 0
  capacityBytes: number
  fault: DiskFault

  constructor(options: SimulatedDiskOptions) {
    this.#options = options
    this.fault = options.fault ?? (() => null)
    this.capacityBytes = options.capacityBytes ?? Number.POSITIVE_INFINITY
  }

  get calls(): number {
    return this.#calls
  }

  /** The process dies: handles and locks go, everything written stays. */
  kill(): void {
    this.#life += 1
    this.#handles = new Map()
    this.#locks = new Set()
  }

  /** The machine dies: what was not fsynced is kept, lost or torn, at random. */
  powerLoss(): void {
    const { random } = this.#options
    this.kill()
    for (const directory of this.#directories.values()) {
      const kept = Math.floor(random() * (directory.pending.length + 1))
      for (const change of directory.pending.slice(0, kept)) persist(directory, change)
      directory.pending = []
      directory.names.clear()
      for (const [path, inode] of directory.durable) directory.names.set(path, inode)
    }
    for (const inode of this.#inodes()) loseUnsynced(inode, random)
  }

  /** Contents as a process would read them. */
  readFile(path: string): Buffer {
    const inode = this.#find(path, 'readFile')
    return Buffer.from(inode.bytes.slice(0, inode.size))
  }

  /** Puts a file there, durably: a test's damage, or its starting point. */
  writeFile(path: string, bytes: Uint8Array): void {
    const inode = new Inode()
    inode.bytes = Uint8Array.from(bytes)
    inode.durable = Uint8Array.from(bytes)
    inode.size = bytes.length
    const directory = this.#directory(path, 'writeFile')
    directory.names.set(path, inode)
    directory.durable.set(path, inode)
  }

  makeDirectory(path: string): void {
    this.#called('makeDirectory', path)
    if (!this.#directories.has(path)) this.#directories.set(path, new Directory())
  }

  list(path: string): string[] {
    this.#called('list', path)
    const directory = this.#directories.get(path)
    if (directory === undefined) throw diskError('ENOENT', 'list')
    return Array.from(directory.names.keys(), (name) => name.slice(path.length + 1))
  }

  stat(path: string): { size: number; mtimeMs: number } {
    this.#called('stat', path)
    const { size, mtimeMs } = this.#find(path, 'stat')
    return { size, mtimeMs }
  }

  open(path: string, mode: OpenMode): number {
    this.#called('open', path)
    const fd = ++this.#fds
    const opened = this.#directories.get(path)
    if (opened !== undefined && mode === 'read') {
      this.#handles.set(fd, { directory: opened, path })
      return fd
    }
    const directory = this.#directory(path, 'open')
    let inode = directory.names.get(path)
    if (mode === 'create' && inode !== undefined) throw diskError('EEXIST', 'open')
    if (inode === undefined) {
      if (mode === 'read') throw diskError('ENOENT', 'open')
      inode = new Inode()
      inode.mtimeMs = this.#nowMs()
      directory.names.set(path, inode)
      directory.pending.push([{ path, inode }])
    }
    this.#handles.set(fd, { inode, path })
    if (mode === 'replace') this.#resize(inode, 0)
    return fd
  }

  write(fd: number, bytes: Uint8Array): number {
    const { inode, path } = this.#file(fd, 'write')
    this.#called('write', path)
    const taken = Math.min(bytes.length, this.freeBytes())
    if (taken <= 0) throw diskError('ENOSPC', 'write')
    const start = inode.size
    this.#resize(inode, start + taken)
    inode.bytes.set(bytes.subarray(0, taken), start)
    return taken
  }

  read(fd: number, into: Uint8Array, position: number): number {
    const { inode, path } = this.#file(fd, 'read')
    this.#called('read', path)
    const part = inode.bytes.subarray(position, Math.min(inode.size, position + into.length))
    into.set(part)
    return part.length
  }

  size(fd: number): number {
    return this.#file(fd, 'size').inode.size
  }

  truncate(fd: number, size: number): void {
    const { inode, path } = this.#file(fd, 'truncate')
    this.#called('truncate', path)
    this.#resize(inode, size)
  }

  fsync(fd: number, done: (error: Error | null) => void): void {
    const handle = this.#handle(fd, 'fsync')
    const error = this.#fault('fsync', handle.path)
    const complete = this.#startSync(handle, error)
    const life = this.#life
    const defer = this.#options.defer ?? queueMicrotask
    defer(() => {
      if (life !== this.#life) return
      complete()
      done(error)
    })
  }

  fsyncSync(fd: number): void {
    const handle = this.#handle(fd, 'fsyncSync')
    const error = this.#fault('fsyncSync', handle.path)
    this.#startSync(handle, error)()
    if (error !== null) throw error
  }

  close(fd: number): void {
    this.#handle(fd, 'close')
    this.#handles.delete(fd)
  }

  rename(from: string, to: string): void {
    this.#called('rename', from)
    const inode = this.#find(from, 'rename')
    const directory = this.#directory(to, 'rename')
    directory.names.delete(from)
    directory.names.set(to, inode)
    directory.pending.push([
      { path: from, inode: null },
      { path: to, inode },
    ])
  }

  unlink(path: string): void {
    this.#called('unlink', path)
    this.#find(path, 'unlink')
    const directory = this.#directory(path, 'unlink')
    directory.names.delete(path)
    directory.pending.push([{ path, inode: null }])
  }

  freeBytes(): number {
    if (this.capacityBytes === Number.POSITIVE_INFINITY) return this.capacityBytes
    let used = 0
    for (const inode of this.#inodes()) used += inode.size
    return Math.max(0, this.capacityBytes - used)
  }

  lock(directory: string): () => void {
    if (this.#locks.has(directory)) throw diskError('journal_locked', 'lock')
    const locks = this.#locks
    locks.add(directory)
    return () => locks.delete(directory)
  }

  /** Files that have a name or are open: the others have given their space back. */
  #inodes(): Set<Inode> {
    const found = new Set<Inode>()
    for (const { names } of this.#directories.values()) {
      for (const inode of names.values()) found.add(inode)
    }
    for (const handle of this.#handles.values()) if ('inode' in handle) found.add(handle.inode)
    return found
  }

  #resize(inode: Inode, size: number): void {
    if (size > inode.bytes.length) {
      const grown = new Uint8Array(Math.max(size, inode.bytes.length * 2))
      grown.set(inode.bytes)
      inode.bytes = grown
    }
    const from = Math.min(size, inode.size)
    inode.bytes.fill(0, size)
    const end = Math.max(size, inode.size)
    for (let page = Math.floor(from / PAGE_BYTES); page * PAGE_BYTES < end; page++) {
      inode.dirtyPages.add(page)
    }
    inode.size = size
    inode.mtimeMs = this.#nowMs()
  }

  /** Returns what makes durable that which was written before the call. */
  #startSync(handle: Handle, error: Error | null): () => void {
    if ('directory' in handle) {
      const { directory } = handle
      const changes = [...directory.pending]
      return () => {
        if (error !== null) return
        for (const change of changes) persist(directory, change)
        directory.pending = directory.pending.filter((change) => !changes.includes(change))
      }
    }
    const { inode } = handle
    const size = inode.size
    const number = ++inode.syncsBegun
    const pages = Array.from(inode.dirtyPages, (page) => {
      const start = page * PAGE_BYTES
      return { page, content: inode.bytes.slice(start, Math.min(size, start + PAGE_BYTES)) }
    })
    return () => {
      for (const { page, content } of pages) {
        if (isSame(content, pageOf(inode, page))) inode.dirtyPages.delete(page)
      }
      if (error !== null || number < inode.syncDone) return
      inode.syncDone = number
      inode.durable = resized(inode.durable, size)
      for (const { page, content } of pages) inode.durable.set(content, page * PAGE_BYTES)
    }
  }

  #find(path: string, call: string): Inode {
    const inode = this.#directory(path, call).names.get(path)
    if (inode === undefined) throw diskError('ENOENT', call)
    return inode
  }

  #directory(path: string, call: string): Directory {
    const directory = this.#directories.get(dirname(path))
    if (directory === undefined) throw diskError('ENOENT', call)
    return directory
  }

  #handle(fd: number, call: string): Handle {
    const handle = this.#handles.get(fd)
    if (handle === undefined) throw diskError('EBADF', call)
    return handle
  }

  #file(fd: number, call: string): Extract<Handle, { inode: Inode }> {
    const handle = this.#handle(fd, call)
    if (!('inode' in handle)) throw diskError('EISDIR', call)
    return handle
  }

  #called(op: DiskCall['op'], path: string): void {
    const error = this.#fault(op, path)
    if (error !== null) throw error
  }

  #fault(op: DiskCall['op'], path: string): Error | null {
    return this.fault({ op, path, number: this.#calls++ })
  }

  #nowMs(): number {
    return this.#options.nowMs?.() ?? 0
  }
}

function persist(directory: Directory, changes: readonly DirectoryChange[]): void {
  for (const { path, inode } of changes) {
    if (inode === null) directory.durable.delete(path)
    else directory.durable.set(path, inode)
  }
}

function loseUnsynced(inode: Inode, random: () => number): void {
  const { durable, dirtyPages } = inode
  const size = dirtyPages.size > 0 && random() < 0.5 ? inode.size : durable.length
  const bytes = resized(durable, size)
  for (const page of dirtyPages) {
    const start = page * PAGE_BYTES
    if (start >= size) continue
    const written = pageOf(inode, page).subarray(0, size - start)
    const outcome = random()
    if (outcome < 1 / 3) bytes.set(written, start)
    else if (outcome < 2 / 3) {
      const sectors = Math.floor(random() * (PAGE_BYTES / SECTOR_BYTES))
      bytes.set(written.subarray(0, sectors * SECTOR_BYTES), start)
    }
  }
  inode.bytes = Uint8Array.from(bytes)
  inode.durable = bytes
  inode.size = size
  dirtyPages.clear()
}

function pageOf({ bytes, size }: Inode, page: number): Uint8Array {
  return bytes.subarray(page * PAGE_BYTES, Math.min(size, (page + 1) * PAGE_BYTES))
}

function resized(bytes: Uint8Array, size: number): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(size)
  copy.set(bytes.subarray(0, size))
  return copy
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}
