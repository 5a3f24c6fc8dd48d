import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openDatabase } from '../client.ts'
import type { Database } from '../database.ts'
import { createTenant, findTenant } from '../queries/tenants.ts'

const HOLDER = new URL('./support/directory-holder.ts', import.meta.url)

let root: string
let directory: string
let children: ChildProcess[]
let databases: Database[]

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'nozzle-db-'))
  directory = join(root, 'data', 'db')
  children = []
  databases = []
})

afterEach(async () => {
  for (const child of children) await kill(child)
  for (const database of databases) await database.close()
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
    const tenant = await createTenant(first.db, { name: 'acme' })
    await first.close()
    const second = await open()
    await second.migrate()
    expect(await findTenant(second.db, 'acme')).toEqual(tenant)
  })

  it('is refused to another process while it is open, and free once it is closed', async () => {
    const database = await open()
    expect((await openElsewhere('first')).said).toBe('refused database_locked')
    await database.close()
    expect((await openElsewhere('second')).said).toBe('ready')
    await expect(open()).rejects.toMatchObject({ code: 'database_locked' })
  })

  it('is refused to a second opener in the same process', async () => {
    await open()
    await expect(open()).rejects.toMatchObject({ code: 'database_locked' })
  })

  it('is taken over, rows and all, from a process that was killed', async () => {
    const { child, said } = await openElsewhere('survivor')
    expect(said).toBe('ready')
    await kill(child)
    const database = await open()
    await database.migrate()
    expect(await findTenant(database.db, 'survivor')).toMatchObject({ name: 'survivor' })
  })

  it('runs with fsync, by a method that reaches the disk', async () => {
    const { db } = await open()
    const settings = sql`select current_setting('fsync') as fsync,
      current_setting('synchronous_commit') as commit, current_setting('wal_sync_method') as method`
    const { rows } = await db.execute(settings)
    expect(rows).toEqual([{ fsync: 'on', commit: 'on', method: 'fsync' }])
  })

  it('is free again when opening it failed', async () => {
    writeFileSync(join(root, 'file'), '')
    directory = join(root, 'file')
    await expect(open()).rejects.toMatchObject({ code: 'database_unavailable' })
    await expect(open()).rejects.toMatchObject({ code: 'database_unavailable' })
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
