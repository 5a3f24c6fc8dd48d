/** A command line as an operator runs it against a pool of a test. */
import type { PoolClient } from '../../edge/test/support/pool-client.ts'
import { runCli } from '../cli.ts'

const idle = new AbortController().signal

export interface CliRun {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

export function runAgainst(
  pool: PoolClient,
  argv: readonly string[],
  apiKey = pool.operatorKey,
  /** What names the edge. */
  env: NodeJS.ProcessEnv = { NOZZLE_EDGE_URL: pool.url },
): Promise<CliRun> {
  return runInEnv(argv, { ...env, NOZZLE_API_KEY: apiKey })
}

export async function runInEnv(
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
  projectRoot = process.cwd(),
): Promise<CliRun> {
  const written = { stdout: '', stderr: '' }
  const exitCode = await runCli(argv, {
    env,
    projectRoot,
    stdout: { write: (piece) => (written.stdout += piece) },
    stderr: { write: (piece) => (written.stderr += piece) },
    signal: idle,
    hurry: idle,
    readStdin: null,
  })
  return { exitCode, ...written }
}
