/**
 * Migrations → new version of the Worker → smoke test, and back to the version before when that
 * fails. Migrations stay: the version before serves on with them.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { CliError } from '../lib/cli-error.ts'
import type { CommandCall } from '../lib/command.ts'
import { quoteForShell } from '../lib/output.ts'
import {
  type CloudflarePlan,
  deployArgv,
  isAbsentWorker,
  parseDeployRecord,
  parseStatus,
  rollbackArgv,
  statusArgv,
  type WorkerSecrets,
} from './cloudflare-plan.ts'
import { migrateDatabase } from './migrate-database.ts'
import { smokeTest } from './smoke-test.ts'

const TAIL = 2000

/** What would be done, a line a step. */
export function describeRelease(plan: CloudflarePlan): { step: string; does: string }[] {
  const wrangler = (argv: readonly string[]) => ['wrangler', ...argv].map(quoteForShell).join(' ')
  return [
    { step: 'status', does: wrangler(statusArgv(plan)) },
    { step: 'migrate', does: 'apply what the database of NOZZLE_DATABASE_URL lacks' },
    { step: 'deploy', does: wrangler(deployArgv(plan, '<temporary file, mode 0600>')) },
    { step: 'smoke', does: '/healthz of that version, /v1/whoami as operator, 401 for a stranger' },
    { step: 'on failure', does: wrangler(rollbackArgv(plan, '<version before>')) },
  ]
}

/** Throws `unavailable` when the version before serves, again or still. */
export async function releaseWorker(
  call: CommandCall,
  plan: CloudflarePlan,
  secrets: WorkerSecrets,
): Promise<{ versionId: string; url: string; previous: string | null }> {
  const scratch = mkdtempSync(join(tmpdir(), 'nozzle-release-'))
  try {
    const wrangler = new Wrangler(call, join(scratch, 'output.ndjson'))
    const previous = await currentVersion(wrangler, plan)
    call.output.note(previous === null ? 'a first release' : `version ${previous} serves`)
    await migrateDatabase(secrets.NOZZLE_DATABASE_URL ?? '')
    call.output.note('the database is up to date')
    const secretsFile = join(scratch, 'secrets.json')
    // JSON: wrangler would expand $NAME in a dotenv file.
    writeFileSync(secretsFile, JSON.stringify(secrets), { mode: 0o600 })
    const run = await wrangler.run(deployArgv(plan, secretsFile))
    const deployed = wrangler.deployRecord()
    if (run.code !== 0 || deployed === null) {
      if (deployed !== null) await rollBack(call, wrangler, plan, previous)
      throw new CliError('unavailable', `wrangler deploy failed:\n${run.said}`)
    }
    const url = plan.publicUrl ?? deployed.url
    if (url === null) {
      const fix = 'Name where it is reached: --public-url.'
      await rollBack(call, wrangler, plan, previous)
      throw new CliError('usage', 'wrangler names no URL of the Worker', fix)
    }
    call.output.note(`version ${deployed.versionId} is up; trying it at ${url}`)
    const fault = await smokeTest(
      {
        ...{ url, versionId: deployed.versionId, withinMs: plan.smokeMs },
        ...{ baseModelName: plan.baseModelName, operatorKey: secrets.NOZZLE_OPERATOR_KEY ?? '' },
      },
      call.signal,
    )
    if (fault === null) return { versionId: deployed.versionId, url, previous }
    await rollBack(call, wrangler, plan, previous)
    throw new CliError(
      'unavailable',
      `version ${deployed.versionId} failed its smoke test: ${fault}`,
      previous === null
        ? 'It is the first and stays up: correct it and release again, or `wrangler delete`.'
        : `Version ${previous} serves again, with its own secrets.`,
    )
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

async function currentVersion(wrangler: Wrangler, plan: CloudflarePlan): Promise<string | null> {
  const { code, stdout, said } = await wrangler.run(statusArgv(plan))
  if (code === 0) return parseStatus(stdout)
  if (isAbsentWorker(said)) return null
  const fix = '`npx wrangler login`, or CLOUDFLARE_API_TOKEN and CLOUDFLARE_ACCOUNT_ID.'
  throw new CliError('unavailable', `wrangler cannot see the Worker:\n${said}`, fix)
}

async function rollBack(
  call: CommandCall,
  wrangler: Wrangler,
  plan: CloudflarePlan,
  previous: string | null,
): Promise<void> {
  if (previous === null) return
  call.output.note(`rolling back to version ${previous}`)
  const { code, said } = await wrangler.run(rollbackArgv(plan, previous))
  if (code === 0) return
  const fix = `Do it by hand: npx wrangler rollback ${previous}`
  throw new CliError('unexpected', `the rollback failed too:\n${said}`, fix)
}

interface WranglerRun {
  readonly code: number
  readonly stdout: string
  /** The end of all that it said. */
  readonly said: string
}

/** wrangler as a process, in the checkout. It is told no secret but by file. */
class Wrangler {
  readonly #call: CommandCall
  readonly #outputFile: string

  constructor(call: CommandCall, outputFile: string) {
    this.#call = call
    this.#outputFile = outputFile
  }

  /** Throws `missing_prerequisite` when there is none. */
  async run(argv: readonly string[]): Promise<WranglerRun> {
    const { env, projectRoot } = this.#call
    const ours = Object.entries(env).filter(([name]) => !name.startsWith('NOZZLE_'))
    const child = spawn('wrangler', argv, {
      cwd: projectRoot,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...Object.fromEntries(ours),
        WRANGLER_OUTPUT_FILE_PATH: this.#outputFile,
        WRANGLER_SEND_METRICS: 'false',
        CI: '1',
      },
    })
    const closed = once(child, 'close').catch((error: unknown) => error)
    const [stdout, stderr, end] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      closed,
    ])
    if (end instanceof Error) {
      const fix = '`npm run setup` installs it, with the development packages.'
      throw new CliError('missing_prerequisite', `wrangler cannot be run: ${end.message}`, fix)
    }
    return { code: child.exitCode ?? 1, stdout, said: `${stdout}\n${stderr}`.trim().slice(-TAIL) }
  }

  deployRecord(): ReturnType<typeof parseDeployRecord> {
    if (!existsSync(this.#outputFile)) return null
    return parseDeployRecord(readFileSync(this.#outputFile, 'utf8'))
  }
}
