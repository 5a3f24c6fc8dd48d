/**
 * A throwaway copy of the working tree, uncommitted changes included: bugs are planted there and
 * never in the user's files. Packages and the built engine are linked, not copied.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { CliError } from '../lib/cli-error.ts'

const LINKED = ['node_modules', join('native', 'build'), '.cache']

export interface TreeCopy {
  readonly root: string
  remove(): void
}

/** Throws CliError `unexpected` outside a git checkout. */
export function copyTree(projectRoot: string): TreeCopy {
  const root = mkdtempSync(join(tmpdir(), 'nozzle-mutants-'))
  for (const path of listTree(projectRoot)) {
    if (!existsSync(join(projectRoot, path))) continue
    mkdirSync(dirname(join(root, path)), { recursive: true })
    cpSync(join(projectRoot, path), join(root, path))
  }
  for (const path of LINKED) {
    if (existsSync(join(projectRoot, path))) symlinkSync(join(projectRoot, path), join(root, path))
  }
  return { root, remove: () => rmSync(root, { recursive: true, force: true }) }
}

function listTree(projectRoot: string): string[] {
  const args = ['ls-files', '--cached', '--others', '--exclude-standard', '-z']
  const { status, stdout, stderr } = spawnSync('git', args, { cwd: projectRoot, encoding: 'utf8' })
  if (status === 0) return stdout.split('\0').filter((path) => path !== '')
  throw new CliError('unexpected', `git cannot list the tree: ${stderr.trim()}`)
}
