/**
 * Makes what was written survive the death of the machine: one fsync per group, at most
 * `intervalMs` after the group's first write, files and their names in the order in which they were
 * written. `durable` is how far that has come; nothing beyond it may be called settled.
 *
 *   idle → waiting (a write came) → syncing → idle, or waiting again
 *                                      ↓ an fsync failed
 *                                    failed, for good
 *
 * An error is final: the kernel forgets the pages that it could not write, so a later fsync that
 * succeeds would prove nothing.
 */
import type { Clock } from '../clock.ts'
import type { Disk } from './disk.ts'
import type { JournalCursor } from './settled-reader.ts'

export interface GroupFsyncOptions {
  readonly disk: Disk
  readonly clock: Clock
  readonly directory: string
  readonly intervalMs: number
  /** Called once, from no call of the caller's. */
  readonly onFailed: (error: Error) => void
}

interface OpenFile {
  readonly fd: number
  /** End of what was written. */
  readonly written: JournalCursor
}

/** One fsync of a group. */
interface SyncStep {
  readonly fd: number
  /** What is durable once it has succeeded; null = no more than before. */
  readonly reaches: JournalCursor | null
  /** No longer written to: closed afterwards. */
  readonly isRetired: boolean
}

export class GroupFsync {
  readonly #options: GroupFsyncOptions
  readonly #directoryFd: number
  #durable: JournalCursor
  #active: OpenFile | null = null
  #retired: OpenFile[] = []
  #isDirectoryDirty = false
  #state: 'idle' | 'waiting' | 'syncing' | 'failed' | 'closed' = 'idle'
  #cancelTimer: (() => void) | null = null
  /** First write that no group has taken up; null = none. */
  #waitingSinceUs: number | null = null

  /** `durable`: what is so already. */
  constructor(options: GroupFsyncOptions, durable: JournalCursor) {
    this.#options = options
    this.#durable = durable
    this.#directoryFd = options.disk.open(options.directory, 'read')
  }

  get durable(): JournalCursor {
    return this.#durable
  }

  /** True while a file that is no longer written to is not durable. */
  get isRetiring(): boolean {
    return this.#retired.some(({ written }) => isBefore(this.#durable, written))
  }

  /** `fd` is written up to `written`. Another `fd` than the last retires that one. */
  wrote(fd: number, written: JournalCursor): void {
    if (this.#active !== null && this.#active.fd !== fd) this.#retired.push(this.#active)
    this.#active = { fd, written }
    this.#wait()
  }

  /** A name was created, replaced or removed. */
  directoryChanged(): void {
    this.#isDirectoryDirty = true
    this.#wait()
  }

  /** Everything written is durable when it returns. Throws, and fails for good, when it is not. */
  flushSync(): void {
    if (this.#state === 'failed') throw new Error('an fsync of the journal has failed')
    this.#cancelTimer?.()
    this.#cancelTimer = null
    try {
      for (const step of this.#takeGroup()) {
        this.#options.disk.fsyncSync(step.fd)
        this.#reach(step)
        // Unless a group is at it: nobody may close what is being synced.
        if (step.isRetired && this.#state !== 'syncing') this.#closeRetired(step.fd)
      }
    } catch (error) {
      const cause = error instanceof Error ? error : new Error(String(error))
      this.#fail(cause)
      throw cause
    }
    if (this.#state === 'waiting') this.#state = 'idle'
  }

  /** Closes all files, without a last fsync. */
  close(): void {
    this.#cancelTimer?.()
    this.#state = 'closed'
    const { disk } = this.#options
    for (const { fd } of this.#retired.splice(0)) disk.close(fd)
    if (this.#active !== null) disk.close(this.#active.fd)
    disk.close(this.#directoryFd)
    this.#active = null
  }

  #wait(): void {
    const { clock, intervalMs } = this.#options
    this.#waitingSinceUs ??= clock.nowUs()
    if (this.#state !== 'idle') return
    this.#state = 'waiting'
    const waitedMs = (clock.nowUs() - this.#waitingSinceUs) / 1000
    this.#cancelTimer = clock.setTimer(Math.max(0, intervalMs - waitedMs), () => {
      this.#cancelTimer = null
      this.#state = 'syncing'
      this.#sync(this.#takeGroup())
    })
  }

  /** What is not durable yet, in the order in which it must become so: names, then contents. */
  #takeGroup(): SyncStep[] {
    const steps: SyncStep[] = []
    if (this.#isDirectoryDirty) {
      steps.push({ fd: this.#directoryFd, reaches: null, isRetired: false })
    }
    for (const { fd, written } of this.#retired) {
      steps.push({ fd, reaches: written, isRetired: true })
    }
    if (this.#active !== null && isBefore(this.#durable, this.#active.written)) {
      steps.push({ fd: this.#active.fd, reaches: this.#active.written, isRetired: false })
    }
    this.#isDirectoryDirty = false
    this.#waitingSinceUs = null
    return steps
  }

  #sync(steps: readonly SyncStep[]): void {
    const [step, ...rest] = steps
    if (step === undefined) {
      this.#state = 'idle'
      if (this.#waitingSinceUs !== null) this.#wait()
      return
    }
    this.#options.disk.fsync(step.fd, (error) => {
      if (this.#state !== 'syncing') return
      if (error !== null) this.#fail(error)
      else {
        this.#reach(step)
        if (step.isRetired) this.#closeRetired(step.fd)
        this.#sync(rest)
      }
    })
  }

  #reach({ reaches }: SyncStep): void {
    if (reaches !== null && isBefore(this.#durable, reaches)) this.#durable = reaches
  }

  #closeRetired(fd: number): void {
    this.#retired = this.#retired.filter((file) => file.fd !== fd)
    this.#options.disk.close(fd)
  }

  #fail(error: Error): void {
    this.#state = 'failed'
    queueMicrotask(() => this.#options.onFailed(error))
  }
}

function isBefore(a: JournalCursor, b: JournalCursor): boolean {
  return a.segment < b.segment || (a.segment === b.segment && a.offset < b.offset)
}
