import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createApiKey } from '../../edge/auth/api-key.ts'
import { edgeEnvironment } from '../../edge/test/support/test-pool.ts'
import { type SupervisedOptions, SupervisedProcess } from './child-process.ts'

const entry = join(import.meta.dirname, 'test', 'scripted-child.ts')
const patient = new AbortController().signal

let directory = ''
let logPath = ''
let children: SupervisedProcess[] = []
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'nozzle-child-'))
  logPath = join(directory, 'child.log')
})
afterEach(async () => {
  await Promise.all(children.map((child) => child.stop(AbortSignal.abort())))
  children = []
  rmSync(directory, { recursive: true, force: true })
})

function supervise(behaviour: string, more: Partial<SupervisedOptions> = {}) {
  const notes: string[] = []
  const pids: number[] = []
  const child = new SupervisedProcess({
    name: 'edge',
    entry,
    args: [],
    env: () => ({ BEHAVIOUR: behaviour }),
    logPath,
    note: (text) => notes.push(text),
    onStart: (pid) => pids.push(pid),
    ...more,
  })
  children.push(child)
  return { child, notes, pids }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** For what other processes do; bounded by the test's own timeout. */
async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await sleep(5)
}

describe('SupervisedProcess', () => {
  it('does not try again what the environment makes impossible, and passes on the fix', async () => {
    const { child, pids } = supervise('misconfigured')
    await expect(child.ready).rejects.toMatchObject({
      reason: 'refused',
      message: 'edge does not start: PORT: is taken',
      fix: 'choose another',
    })
    expect(pids).toHaveLength(1)
  })

  it('refuses to start the edge on a port in use, and says which variable to change', async () => {
    const holder = createServer().listen(0, '127.0.0.1')
    await once(holder, 'listening')
    const address = holder.address()
    const port = typeof address === 'object' ? address?.port : 0
    const environment = edgeEnvironment(await createApiKey())
    const { child, pids } = supervise('none', {
      entry: join(import.meta.dirname, '..', '..', 'edge', 'node.ts'),
      env: () => ({ ...environment, NOZZLE_PORT: String(port) }),
    })
    const refusal = await child.ready.catch((error: unknown) => error)
    holder.close()
    expect(refusal).toMatchObject({
      reason: 'refused',
      exitCode: 4,
      message: expect.stringContaining('EADDRINUSE'),
      fix: 'choose another NOZZLE_PORT, or 0 for any free one',
    })
    expect(pids).toHaveLength(1)
  }, 60_000)

  it('serves once the child says so, and stops it with SIGTERM', async () => {
    const { child, notes, pids } = supervise('serve')
    const url = await child.ready
    expect(url).toBe(`http://127.0.0.1:${(child.pid ?? 0) % 60_000}`)
    await child.stop(patient)
    expect(pids).toHaveLength(1)
    expect(isAlive(pids[0] ?? 0)).toBe(false)
    expect(readFileSync(logPath, 'utf8')).toContain('SIGTERM')
    expect(notes).toEqual([])
  })

  it('fails the start of a child that keeps dying, with what its last start logged', async () => {
    writeFileSync(logPath, 'of a run before\n')
    const { child, pids } = supervise('die')
    await expect(child.ready).rejects.toMatchObject({
      reason: 'unexpected',
      message:
        'edge does not start (exit code 3); its log ends with:\nstarted \ncannot start: the reason',
      fix: expect.stringContaining(logPath),
    })
    expect(pids).toHaveLength(3)
    expect(child.pid).toBeNull()
  })

  it('starts a killed child again, where it served before, and says so', async () => {
    const env = (boundUrl: string | null) => ({ NOTE: `after ${boundUrl}` })
    const { child, notes, pids } = supervise('serve', { env })
    const url = await child.ready
    process.kill(pids[0] ?? 0, 'SIGKILL')
    await until(() => readFileSync(logPath, 'utf8').includes(`started after ${url}`))
    expect(notes).toEqual([expect.stringContaining('edge died (killed by SIGKILL)')])
    expect(child.pid).toBe(pids[1])
  })

  it('does not start a child again that dies while it is stopped', async () => {
    const { child, pids } = supervise('serve')
    await child.ready
    process.kill(pids[0] ?? 0, 'SIGKILL')
    await child.stop(patient)
    await child.stop(patient)
    expect(child.pid).toBeNull()
  })

  it('kills a child that does not stop when in a hurry', async () => {
    const { child, pids } = supervise('stubborn')
    await child.ready
    const hurry = new AbortController()
    const stopped = child.stop(hurry.signal)
    await until(() => readFileSync(logPath, 'utf8').includes('SIGTERM'))
    hurry.abort()
    await stopped
    expect(isAlive(pids[0] ?? 0)).toBe(false)
  })

  it('leaves no child behind when the supervisor itself is killed', async () => {
    const { spawn } = await import('node:child_process')
    const supervisor = spawn(
      process.execPath,
      [join(import.meta.dirname, 'test', 'supervisor.ts'), entry, logPath],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    const [line] = await once(supervisor.stdout, 'data')
    const pid = Number(String(line))
    expect(isAlive(pid)).toBe(true)
    supervisor.kill('SIGKILL')
    await until(() => !isAlive(pid))
  })
})
