import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fsyncSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { openDatabase } from '../client.ts'
import type { Database } from '../database.ts'
import { recordHeartbeat } from '../queries/hosts.ts'
import { createTenant, findTenant } from '../queries/tenants.ts'
import { createHeartbeat, uniqueName } from './support/records.ts'

/** The real one, counted. */
vi.mock('node:fs', async (importOriginal) => {
  const fs = await importOriginal<typeof import('node:fs')>()
  return { ...fs, fsyncSync: vi.fn(fs.fsyncSync) }
})

const HOLDER = new URL('./support/directory-holder.ts', import.meta.url)

let root: string
let directory: string
let children: ChildProcess[]
let databases: Database[]

// One directory for all tests, opened and closed by each: making one takes seconds.
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'nozzle-db-'))
  directory = join(root, 'data', 'db')
})

beforeEach(() => {
  children = []
  databases = []
})

afterEach(async () => {
  for (const child of children) await kill(child)
  for (const database of databases) await database.close()
})

afterAll(() => {
  rmSync(root, { recursive: true, force: true })
})

async function open(): Promise<Database> {
  const database = await openDatabase(`pglite:${directory}`)
  databases.push(database)
  return database
}

/** Starts another process that opens the directory; resolves to what it says about that. */
async function openElsewhere(tenant: string): Promise<{ child: ChildProcess; said: unknown }> {
  const child = fork(HOLDER, [directory, tenant])
  children.push(child)
  const [said] = await once(child, 'message')
  return { child, said }
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill('SIGKILL')
  await gone
}

describe('a database in a directory', () => {
  it('keeps its rows when it is closed and opened again', async () => {
    const first = await open()
    await first.migrate()
    const name = uniqueName('tenant')
    const tenant = await createTenant(first.db, { name })
    await first.close()
    const second = await open()
    await second.migrate()
    expect(tenant).not.toBeNull()
    expect(await findTenant(second.db, name)).toEqual(tenant)
  })

  it('is refused to another process while it is open, and free once it is closed', async () => {
    const database = await open()
    expect((await openElsewhere(uniqueName('tenant'))).said).toBe('refused database_locked')
    await database.close()
    expect((await openElsewhere(uniqueName('tenant'))).said).toBe('ready')
    await expect(open()).rejects.toMatchObject({ code: 'database_locked' })
  })

  it('is refused to a second opener in the same process', async () => {
    await open()
    await expect(open()).rejects.toMatchObject({ code: 'database_locked' })
  })

  it('is taken over, rows and all, from a process that was killed', async () => {
    const name = uniqueName('survivor')
    const { child, said } = await openElsewhere(name)
    expect(said).toBe('ready')
    await kill(child)
    const database = await open()
    await database.migrate()
    expect(await findTenant(database.db, name)).toMatchObject({ name })
  })

  it('waits for the disk at a commit, and for nothing at a read or a heartbeat', async () => {
    const { db, migrate } = await open()
    await migrate()
    const fsyncsOf = async (work: Promise<unknown>) => {
      vi.mocked(fsyncSync).mockClear()
      await work
      return vi.mocked(fsyncSync).mock.calls.length
    }
    const name = uniqueName('tenant')
    expect(await fsyncsOf(createTenant(db, { name }))).toBeGreaterThan(0)
    expect(await fsyncsOf(findTenant(db, name))).toBe(0)
    // The table's first row makes its file.
    await recordHeartbeat(db, createHeartbeat(), new Date())
    expect(await fsyncsOf(recordHeartbeat(db, createHeartbeat(), new Date()))).toBe(0)
  })

  it('is free again when opening it failed', async () => {
    writeFileSync(join(root, 'file'), '')
    const url = `pglite:${join(root, 'file')}`
    await expect(openDatabase(url)).rejects.toMatchObject({ code: 'database_unavailable' })
    await expect(openDatabase(url)).rejects.toMatchObject({ code: 'database_unavailable' })
  })

  it('may be closed twice', async () => {
    const database = await open()
    await Promise.all([database.close(), database.close()])
    await database.close()
  })
})

describe('openDatabase', () => {
  it.each(['', 'pglite:', 'mysql://x', '/tmp/db', 'postgres'])('refuses %j', async (url) => {
    await expect(openDatabase(url)).rejects.toMatchObject({ code: 'database_url_invalid' })
  })

  it('does not repeat a password', async () => {
    await expect(openDatabase('mysql://u:hunter2@h/d')).rejects.not.toThrow(/hunter2/)
  })
})
