import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { acquirePoolLock } from './pool-lock.ts'

let directory = ''
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'nozzle-lock-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

/** Another process that takes the lock and keeps it until it is killed. */
async function holdElsewhere() {
  const lock = pathToFileURL(join(import.meta.dirname, 'pool-lock.ts')).href
  const code = `
    const { acquirePoolLock } = await import(${JSON.stringify(lock)})
    acquirePoolLock(${JSON.stringify(directory)})
    console.log('held')
    process.stdin.resume()`
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  return child
}

describe('acquirePoolLock', () => {
  it('lets one in at a time, and the next after the release', () => {
    const release = acquirePoolLock(directory)
    expect(() => acquirePoolLock(directory)).toThrow(
      expect.objectContaining({
        reason: 'refused',
        fix: expect.stringContaining('NOZZLE_DATA_DIR'),
      }),
    )
    release()
    acquirePoolLock(directory)()
  })

  it('is free again when its holder was killed', async () => {
    const holder = await holdElsewhere()
    expect(() => acquirePoolLock(directory)).toThrow(expect.objectContaining({ reason: 'refused' }))
    const gone = once(holder, 'exit')
    holder.kill('SIGKILL')
    await gone
    acquirePoolLock(directory)()
  })
})
