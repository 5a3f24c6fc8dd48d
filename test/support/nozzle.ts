/** The CLI as a process of its own: what a user's shell sees of one command. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'

export const PROJECT_ROOT = dirname(dirname(import.meta.dirname))
const TASKS = join(PROJECT_ROOT, 'scripts', 'task.ts')

export interface CliResult {
  readonly exitCode: number | null
  readonly stdout: string
  readonly stderr: string
}

/** This process's environment without its own settings: a test says what it wants. */
export function cleanEnv(more: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('NOZZLE_'))
  return { ...Object.fromEntries(inherited), ...more }
}

/** The process of an npm script. Its channel ends it, should this process die. */
export function spawnTask(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): ChildProcess {
  return spawn(process.execPath, ['--disable-warning=ExperimentalWarning', TASKS, ...args], {
    env: cleanEnv(env),
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
}

/** Waits for the end of a task that ends by itself. */
export async function runTask(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<CliResult> {
  const child = spawnTask(args, env)
  if (child.stdout === null || child.stderr === null) throw new Error('output is piped')
  const [stdout, stderr] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit'),
  ])
  return { exitCode: child.exitCode, stdout, stderr }
}
