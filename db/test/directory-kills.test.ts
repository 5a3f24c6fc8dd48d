/**
 * PGlite in a directory, killed while it opens and while it writes, again and again: what it said
 * was stored is there, once, with its charge, and a batch is there whole or not at all.
 * NOZZLE_DIRECTORY_KILLS is how often; 200 for a soak.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { z } from 'zod'
import { expectedBatch, foundMessage, storedMessage } from './support/directory-writer.ts'

const WRITER = new URL('./support/directory-writer.ts', import.meta.url)
const KILLS = Number(process.env.NOZZLE_DIRECTORY_KILLS ?? 16)
/** Every so many kills one comes while the database is being opened. */
const OPENING_KILL_EACH = 4
const OPENING_MS_MAX = 1200
const BATCHES_MAX = 4
const WRITING_MS_MAX = 60

let root: string
let directory: string
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'nozzle-kills-'))
  directory = join(root, 'db')
})
afterAll(() => {
  rmSync(root, { recursive: true, force: true })
})

interface Life {
  readonly found: z.infer<typeof foundMessage> | null
  /** The last batch that it said was stored. */
  readonly stored: number | null
}

/**
 * A writer from start to kill, `killMs` after it has stored `batches` batches; null = after its
 * start, whatever it has come to.
 */
async function live(first: number, batches: number | null, killMs: number): Promise<Life> {
  const child = fork(WRITER, [directory, String(first)], { stdio: ['ignore', 'ignore', 2, 'ipc'] })
  let found: Life['found'] = null
  let stored: number | null = null
  const reached = new Promise<void>((resolve, reject) => {
    child.on('message', (message) => {
      stored = storedMessage.safeParse(message).data?.batch ?? stored
      found ??= foundMessage.safeParse(message).data ?? null
      if ((stored ?? first - 1) - first + 1 >= (batches ?? 0)) resolve()
    })
    child.on('exit', () => reject(new Error('the writer ended by itself')))
  })
  reached.catch(() => {})
  if (batches !== null) await reached
  await new Promise((resolve) => setTimeout(resolve, killMs))
  await kill(child)
  return { found, stored }
}

async function kill(child: ChildProcess): Promise<void> {
  const gone = once(child, 'exit')
  child.kill('SIGKILL')
  await gone
}

it(`keeps its books through ${KILLS} kills`, { timeout: 1_200_000 }, async () => {
  let acknowledged = 0
  let lives = 0
  for (let i = 0; i < KILLS || lives === 0; i++) {
    // Spread over the time, the same in each run.
    const share = (i * 0.618) % 1
    const isOpening = i % OPENING_KILL_EACH === OPENING_KILL_EACH - 1
    const killMs = share * (isOpening ? OPENING_MS_MAX : WRITING_MS_MAX)
    const batches = isOpening ? null : 1 + (i % BATCHES_MAX)
    const { found, stored } = await live(acknowledged + 1, batches, killMs)
    if (found !== null) {
      lives += 1
      assertBooks(found, acknowledged)
    }
    acknowledged = stored ?? acknowledged
  }
  expect(acknowledged).toBeGreaterThan(KILLS)
  const { found } = await live(acknowledged + 1, 0, 0)
  expect(found).not.toBeNull()
  if (found !== null) assertBooks(found, acknowledged)
})

function assertBooks(found: z.infer<typeof foundMessage>, acknowledged: number): void {
  const { batches, totals, entriesPusd } = found
  // The kill may have come between the commit and the word of it.
  expect([acknowledged, acknowledged + 1]).toContain(batches.length)
  expect(batches).toEqual(batches.map((_, i) => expectedBatch(i + 1)))
  const sum = (field: 'events' | 'tokens') => batches.reduce((all, it) => all + it[field], 0)
  expect(totals).toEqual({
    requests: sum('events'),
    completionTokens: sum('tokens'),
    costPusd: entriesPusd,
  })
}
