/**
 * The data directory of an embedded pool: where everything lives that `nozzle up` keeps, and the
 * secrets it makes on first start. Invariant: secrets.json is written once, readable by its owner
 * alone, and never printed.
 */
import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { z } from 'zod'
import { createApiKey } from '../../edge/auth/api-key.ts'
import { CliError } from './cli-error.ts'

const secretsFile = z.object({
  pool_secret: z.string().min(32),
  key_pepper: z.string().min(32),
  operator_key: z.string().startsWith('nz_'),
})
export type Secrets = z.infer<typeof secretsFile>

/** Written by `nozzle up` once it serves, read by every other command. */
const runningFile = z.object({ edge_url: z.url(), base_model: z.string(), pid: z.int() })
export type Running = z.infer<typeof runningFile>

export interface DataDir {
  readonly root: string
  readonly models: string
  readonly logs: string
  readonly database: string
  readonly childrenFile: string
  readonly runningFile: string
  readonly demoKeyFile: string
  readonly secretsFile: string
}

/** Paths under NOZZLE_DATA_DIR, or `.nozzle` in the checkout. Creates nothing. */
export function locateDataDir(env: NodeJS.ProcessEnv, projectRoot: string): DataDir {
  const root = resolve(env.NOZZLE_DATA_DIR || join(projectRoot, '.nozzle'))
  return {
    root,
    models: join(root, 'models'),
    logs: join(root, 'logs'),
    database: join(root, 'db'),
    childrenFile: join(root, 'children.json'),
    runningFile: join(root, 'running.json'),
    demoKeyFile: join(root, 'demo-key'),
    secretsFile: join(root, 'secrets.json'),
  }
}

export function createDataDir(dir: DataDir): void {
  for (const path of [dir.root, dir.models, dir.logs]) {
    mkdirSync(path, { recursive: true, mode: 0o700 })
  }
}

/** Reads the secrets, making them on the first start. */
export async function loadSecrets(dir: DataDir): Promise<Secrets> {
  const known = readSecrets(dir)
  if (known) return known
  const secrets: Secrets = {
    pool_secret: randomBytes(32).toString('base64url'),
    key_pepper: randomBytes(32).toString('base64url'),
    operator_key: await createApiKey(),
  }
  writePrivateFile(dir.secretsFile, `${JSON.stringify(secrets, null, 2)}\n`)
  return secrets
}

/** null when this data directory was never started. */
export function readSecrets(dir: DataDir): Secrets | null {
  return readJsonFile(dir.secretsFile, secretsFile)
}

/** null when nothing serves from this data directory. */
export function readRunning(dir: DataDir): Running | null {
  return readJsonFile(dir.runningFile, runningFile)
}

/** null before the first start. */
export function readDemoKey(dir: DataDir): string | null {
  return readFileIfPresent(dir.demoKeyFile)?.trim() || null
}

function readFileIfPresent(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

/** null when it is not there. Throws `refused` when it is not what it should be. */
export function readJsonFile<T>(path: string, schema: z.ZodType<T>): T | null {
  const text = readFileIfPresent(path)
  if (text === null) return null
  try {
    return schema.parse(JSON.parse(text))
  } catch {
    throw new CliError(
      'refused',
      `${path} is damaged`,
      'Restore it from a backup, or move it away.',
    )
  }
}

/** Atomic, owner-only. */
export function writePrivateFile(path: string, text: string): void {
  const temporary = `${path}.${process.pid}.tmp`
  writeFileSync(temporary, text, { mode: 0o600 })
  renameSync(temporary, path)
}
