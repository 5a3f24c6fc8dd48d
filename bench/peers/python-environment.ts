/** A peer's own Python environment in the cache, made once for each list of pinned packages. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface PythonPeer {
  /** What it is called, to people. */
  readonly name: string
  readonly directory: string
  /** Path of a file that pins every package. */
  readonly requirements: string
  /** What it costs, to people. */
  readonly size: string
}

const PYTHON_MINOR_MIN = 11

/** Path of a Python that has the packages. Throws when they cannot be installed. */
export function ensurePythonPeer({ name, directory, requirements, size }: PythonPeer): string {
  const python = join(directory, 'bin', 'python')
  const stamp = join(directory, '.installed')
  const wanted = readFileSync(requirements, 'utf8')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return python
  requirePython(name)
  process.stderr.write(`bench: installing ${name}: ${size}, once\n`)
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory, { recursive: true })
  runLoud('python3', ['-m', 'venv', directory])
  const quiet = ['--quiet', '--disable-pip-version-check', '--no-deps']
  runLoud(python, ['-m', 'pip', 'install', ...quiet, '-r', requirements])
  writeFileSync(stamp, wanted)
  return python
}

function requirePython(name: string): void {
  const { status, stdout } = spawnSync('python3', ['--version'], { encoding: 'utf8' })
  const minor = Number(/^Python 3\.(\d+)/.exec(stdout ?? '')?.[1])
  if (status === 0 && minor >= PYTHON_MINOR_MIN) return
  throw new Error(`${name} needs python3 of version 3.${PYTHON_MINOR_MIN} or later`)
}

function runLoud(command: string, args: readonly string[]): void {
  const { status } = spawnSync(command, args, { stdio: ['ignore', 2, 2] })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed; its message is above`)
}
