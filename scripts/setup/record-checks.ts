/** What `nozzle doctor` looks at of the record: the store of adapters and the database. */
import { join } from 'node:path'
import { z } from 'zod'
import { openDatabase } from '#db/client.ts'
import { type MigrationState, readMigrationState } from '#db/migration-state.ts'
import { withinTime } from '#db/within-time.ts'
import { causeText } from '../lib/cause-text.ts'
import { readRunning } from '../lib/data-dir.ts'
import { runHostTool } from '../lib/host-tool.ts'
import { type DoctorPlace, type Finding, fail, ok, warn } from './finding.ts'

/** More packs than that are not read: a doctor is to be done in seconds. */
const PROVEN_BYTES_MAX = 2_000_000_000
const DATABASE_WAIT_MS = 8000

const storeProof = z.union([
  z.object({ failure: z.string() }),
  z.object({ bucket: z.string() }),
  z.object({
    directory: z.string(),
    packs: z.int(),
    unread: z.int(),
    damaged: z.array(z.string()),
  }),
])

/** Can it be written, and are its packs what their names say? */
export async function checkStore({ call, env, dir }: DoctorPlace): Promise<Finding> {
  const address = env.NOZZLE_STORE || join(dir.root, 'store')
  const settings = { ...env, NOZZLE_DATA_DIR: dir.root, NOZZLE_STORE: address }
  const tool = { ...call, env: settings }
  const run = await runHostTool(tool, 'adapters/store-proof.ts', [String(PROVEN_BYTES_MAX)])
  const proof = parseLine(storeProof, run.stdout)
  if (proof === null) return fail(`cannot be looked at: ${run.stderr.slice(0, 500)}`, 'See above.')
  if ('failure' in proof) {
    const fix = 'Make it writable for this user, or set NOZZLE_STORE to another place.'
    return fail(`${address}: ${proof.failure}`, fix)
  }
  if ('bucket' in proof) return ok(`bucket ${proof.bucket}; \`nozzle store check\` tries it out`)
  const { directory, packs, unread, damaged } = proof
  const detail = `${directory}, ${packs} packs${unread > 0 ? `, ${unread} of them not read` : ''}`
  if (damaged.length === 0) return ok(`${detail}, digests right`)
  const fix = 'Delete the files of those digests and deploy their adapters again.'
  return fail(`${detail}, damaged: ${damaged.join(', ')}`, fix)
}

/** A server that is named; the embedded database is opened, and brought up to date, by the pool. */
export async function checkDatabase({ env, dir }: DoctorPlace): Promise<Finding> {
  const url = env.NOZZLE_DATABASE_URL
  if (!url) return ok(`embedded, in ${dir.database}`)
  if (url.startsWith('pglite:') && readRunning(dir) !== null) {
    return ok('embedded; the pool that runs has it open')
  }
  try {
    const database = await openDatabase(url)
    try {
      const state = await withinTime(readMigrationState(database.db), DATABASE_WAIT_MS)
      if (state === null) throw new Error(`no answer within ${DATABASE_WAIT_MS / 1000} s`)
      return judge(state)
    } finally {
      await database.close()
    }
  } catch (error) {
    const fix = 'Start it, or correct NOZZLE_DATABASE_URL (host, port, user, password, name).'
    // Never the URL, which may hold a password.
    return fail(`cannot be reached: ${causeText(error)}`, fix)
  }
}

function judge({ known, missing, unknown }: MigrationState): Finding {
  if (unknown > 0) {
    return fail(`${unknown} migrations are of a later release`, 'Run the release that made them.')
  }
  if (missing === 0) return ok(`reached, all ${known} migrations applied`)
  const fix = 'An edge that starts applies them; a Worker does not: `nozzle release edge` does.'
  return warn(`reached, ${missing} of ${known} migrations not applied`, fix)
}

export function parseLine<T>(schema: z.ZodType<T>, line: string): T | null {
  try {
    return schema.parse(JSON.parse(line))
  } catch {
    return null
  }
}
