/**
 * Python with the packages of `requirements.txt`, where `npm test` found or installed them. Tests
 * that need it are skipped elsewhere, with the reason in their title.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'

/** The folder of the packages; null = there is none, and `pythonReason` says why. */
export const pythonPath: string | null = process.env.NOZZLE_TEST_PYTHON_PACKAGES || null
export const pythonReason: string =
  process.env.NOZZLE_TEST_PYTHON_MISSING ?? 'NOZZLE_TEST_PYTHON_PACKAGES is not set'

/** Resolves to its stdout; throws with its stderr when it fails. What it leaves lies in `cwd`. */
export async function runPython(args: readonly string[], cwd: string): Promise<string> {
  if (pythonPath === null) throw new Error(`no Python packages: ${pythonReason}`)
  const child = spawn('python3', args, {
    cwd,
    env: { ...process.env, PYTHONPATH: pythonPath, PYTHONDONTWRITEBYTECODE: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const [stdout, stderr] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit'),
  ])
  if (child.exitCode !== 0)
    throw new Error(`python3 exited with ${child.exitCode}:\n${stdout}\n${stderr}`)
  return stdout
}
