/** Preloaded into a host process: no fsync in the background succeeds. */
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { diskError } from './simulated-disk.ts'

Object.assign(fs, {
  fsync: (_fd: number, done: (error: Error) => void) => done(diskError('EIO', 'fsync')),
})
syncBuiltinESMExports()
