/**
 * Preloaded into a host process of the fault bench: ends it at the nth write to a journal segment,
 * after a given part of the write's bytes. The write itself is the real one, so that the file then
 * ends where a dying process would have left it.
 */
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { dieNow, type KillPoint, onArmed } from './kill-point.ts'

const SEGMENT = /\/journal\/segment-\d+\.jsonl$/

let armed: Extract<KillPoint, { at: 'journal_write' }> | null = null
onArmed((point) => {
  armed = point?.at === 'journal_write' ? { ...point } : null
})

const segments = new Set<number>()
const { openSync, writeSync } = fs

function openAndNote(...args: Parameters<typeof openSync>): number {
  const fd = openSync(...args)
  if (SEGMENT.test(String(args[0]))) segments.add(fd)
  else segments.delete(fd)
  return fd
}

function writeOrDie(...args: [fd: number, bytes: Uint8Array, ...rest: number[]]): number {
  const [fd, bytes] = args
  if (armed !== null && segments.has(fd)) {
    armed.nth -= 1
    if (armed.nth === 0) {
      const kept = Math.floor(bytes.length * armed.share)
      if (kept > 0) writeSync(fd, bytes.subarray(0, kept))
      dieNow()
    }
  }
  return Reflect.apply(writeSync, fs, args)
}

Object.assign(fs, { openSync: openAndNote, writeSync: writeOrDie })
syncBuiltinESMExports()
