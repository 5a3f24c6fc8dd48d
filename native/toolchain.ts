/**
 * Runs the command-line tools that a build needs. A missing tool becomes a MissingToolError that
 * carries the command that installs it.
 */
import { spawnSync } from 'node:child_process'

/** How to get each tool, shown when it is missing. */
const INSTALL_HINTS: Readonly<Record<string, string>> = {
  cmake: 'Debian/Ubuntu: apt-get install cmake. Fedora: dnf install cmake.',
  'c++': 'Debian/Ubuntu: apt-get install g++. Fedora: dnf install gcc-c++.',
  git: 'Debian/Ubuntu: apt-get install git. Fedora: dnf install git.',
  npm: 'It comes with Node.js; npm packages are fetched with it.',
  tar: 'Debian/Ubuntu: apt-get install tar.',
}

export class BuildError extends Error {
  /** What to do about it; null where the tool's own output is the best there is. */
  readonly fix: string | null

  constructor(message: string, fix: string | null = null) {
    super(message)
    this.name = 'BuildError'
    this.fix = fix
  }
}

/** Throws a BuildError with the install command when `tool` cannot be run. */
export function requireTool(tool: string): void {
  if (spawnSync(tool, ['--version'], { stdio: 'ignore' }).error === undefined) return
  throw new BuildError(`the native engine needs ${tool}`, INSTALL_HINTS[tool] ?? null)
}

/** Runs a tool and returns its stdout; its output is in the error when it fails. */
export function runTool(tool: string, args: readonly string[], cwd: string): string {
  const result = spawnSync(tool, args, { cwd, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 })
  if (result.error) throw new BuildError(`${tool} could not be run`, INSTALL_HINTS[tool] ?? null)
  if (result.status === 0) return result.stdout
  const tail = `${result.stdout}\n${result.stderr}`.trim().split('\n').slice(-30).join('\n')
  throw new BuildError(`${tool} ${args.join(' ')} failed:\n${tail}`)
}
