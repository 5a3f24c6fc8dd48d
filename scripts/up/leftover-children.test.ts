import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type DataDir, locateDataDir } from '../lib/data-dir.ts'
import { childMark, recordChildren, waitForLeftovers } from './leftover-children.ts'

const patient = new AbortController().signal
let dir: DataDir
const children: ChildProcess[] = []
beforeEach(() => {
  dir = locateDataDir({ NOZZLE_DATA_DIR: mkdtempSync(join(tmpdir(), 'nozzle-left-')) }, '/')
})
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  rmSync(dir.root, { recursive: true, force: true })
})

async function startChild(mark: string): Promise<ChildProcess & { pid: number }> {
  const code = 'process.stdin.resume(); console.log("up")'
  const child = spawn(process.execPath, ['-e', code, '--', mark], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  children.push(child)
  await once(child.stdout, 'data')
  return Object.assign(child, { pid: child.pid ?? 0 })
}

describe('waitForLeftovers', () => {
  it('waits until a child of the killed supervisor is gone', async () => {
    const child = await startChild(childMark(dir))
    recordChildren(dir, [child.pid])
    const notes: string[] = []
    // The note is written while the child lives; it is what ends the child here.
    await waitForLeftovers(
      dir,
      (text) => {
        notes.push(text)
        child.kill('SIGKILL')
      },
      patient,
    )
    expect(notes).toEqual([expect.stringContaining(String(child.pid))])
    expect(existsSync(dir.childrenFile)).toBe(false)
  })

  it.each(['another program', '--data-dir=/somewhere/else/'])(
    'does not wait for a process that merely has the id of one: %s',
    async (mark) => {
      const child = await startChild(mark)
      recordChildren(dir, [child.pid])
      await waitForLeftovers(dir, (text) => expect.unreachable(text), patient)
      expect(child.exitCode).toBeNull()
    },
  )

  it.each(['', '[12', '"text"'])('takes a damaged record for none: %j', async (text) => {
    writeFileSync(dir.childrenFile, text)
    await waitForLeftovers(dir, (note) => expect.unreachable(note), patient)
  })

  it('can be interrupted', async () => {
    const child = await startChild(childMark(dir))
    recordChildren(dir, [child.pid])
    const aborter = new AbortController()
    const waiting = waitForLeftovers(dir, () => aborter.abort(), aborter.signal)
    await expect(waiting).rejects.toMatchObject({ name: 'AbortError' })
  })
})
