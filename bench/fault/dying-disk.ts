/**
 * A simulated disk whose process dies at a chosen call: that call does nothing, or, if it writes, a
 * part of it; every later one fails until the next life begins. It may also fail one fsync.
 */
import type { DiskCall, SimulatedDiskOptions } from '../../gpu-host/test/support/simulated-disk.ts'
import { diskError, SimulatedDisk } from '../../gpu-host/test/support/simulated-disk.ts'

export interface Fate {
  /** Calls until the one at which the process dies, 1 = the next; Infinity = it lives. */
  readonly callsLeft: number
  /** Part of a write that is done when it dies there, 0 … 1. */
  readonly share: number
  /** Which fsync from now on fails, 1 = the next; Infinity = none. */
  readonly fsyncsLeft: number
}

export const IMMORTAL: Fate = { callsLeft: Infinity, share: 0, fsyncsLeft: Infinity }

type LivedFate = { -readonly [K in keyof Fate]: Fate[K] } & { diedMs: number | null }

export class DyingDisk extends SimulatedDisk {
  readonly #fate: LivedFate

  constructor(options: Omit<SimulatedDiskOptions, 'fault'> & { readonly nowMs: () => number }) {
    const fate: LivedFate = { ...IMMORTAL, diedMs: null }
    super({ ...options, fault: (call) => judge(fate, call, options.nowMs()) })
    this.#fate = fate
  }

  /** When the process died; null = it lives. */
  get diedMs(): number | null {
    return this.#fate.diedMs
  }

  /** A process starts on what is there. */
  beginLife(fate: Fate): void {
    Object.assign(this.#fate, fate, { diedMs: null })
  }

  override write(fd: number, bytes: Uint8Array): number {
    const kept = Math.floor(bytes.length * this.#fate.share)
    if (this.#fate.callsLeft === 1 && kept > 0) {
      this.#fate.callsLeft += 1
      super.write(fd, bytes.subarray(0, kept))
    }
    return super.write(fd, bytes)
  }
}

function judge(fate: LivedFate, { op }: DiskCall, nowMs: number): Error | null {
  fate.callsLeft -= 1
  if (fate.callsLeft <= 0) fate.diedMs ??= nowMs
  if (fate.diedMs !== null) return diskError('EIO', op)
  if (op !== 'fsync' && op !== 'fsyncSync') return null
  fate.fsyncsLeft -= 1
  return fate.fsyncsLeft === 0 ? diskError('EIO', op) : null
}
