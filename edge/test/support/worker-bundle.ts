/**
 * The Worker as a release uploads it: wrangler bundles worker.ts, and sends nothing anywhere.
 */
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { z } from 'zod'

export interface WorkerBundle {
  readonly directory: string
  /** Module that is the Worker. */
  readonly main: string
  /** Modules that it imports as texts. */
  readonly texts: readonly string[]
  readonly compatibilityDate: string
  readonly compatibilityFlags: readonly string[]
}

const EDGE = join(import.meta.dirname, '..', '..')
const WRANGLER = join(EDGE, '..', 'node_modules', 'wrangler', 'bin', 'wrangler.js')
const MAIN = 'worker.js'
/** What wrangler writes beside the modules. */
const NO_MODULE = /\.map$|^README\.md$|\.log$/

const settings = z.object({
  compatibility_date: z.iso.date(),
  compatibility_flags: z.array(z.string()),
})

/** Fills a directory. Rejects with wrangler's words when it does not bundle. */
export async function buildWorker(directory: string): Promise<WorkerBundle> {
  const argv = [WRANGLER, 'deploy', '--dry-run', '--outdir', directory]
  const env = { ...process.env, WRANGLER_SEND_METRICS: 'false', WRANGLER_LOG: 'error', CI: '1' }
  await promisify(execFile)(process.execPath, argv, {
    cwd: EDGE,
    env: { ...env, WRANGLER_LOG_PATH: join(directory, 'wrangler.log') },
  })
  return readBundle(directory)
}

/** Of a directory that `buildWorker` filled. */
export function readBundle(directory: string): WorkerBundle {
  const modules = readdirSync(directory).filter((name) => !NO_MODULE.test(name))
  if (!modules.includes(MAIN)) throw new Error(`${directory} holds no ${MAIN}`)
  // Whole lines are comments there, and nothing else that JSON does not have.
  const jsonc = readFileSync(join(EDGE, 'wrangler.jsonc'), 'utf8')
  const config = settings.parse(JSON.parse(jsonc.replaceAll(/^\s*\/\/.*$/gm, '')))
  return {
    directory,
    main: MAIN,
    texts: modules.filter((name) => name !== MAIN),
    compatibilityDate: config.compatibility_date,
    compatibilityFlags: config.compatibility_flags,
  }
}
