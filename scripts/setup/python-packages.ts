/**
 * Python packages that tests use: what a requirements file pins, installed once beside other
 * caches, by the user's own pip. Invariant: a folder that is returned holds what the file says.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'

/** For runs that can do without: the reason instead of the folder. */
export function tryPythonPackages(
  root: string,
  note: (text: string) => void,
): { readonly path: string } | { readonly missing: string } {
  const requirements = join(root, 'test', 'requirements.txt')
  const version = spawnSync('python3', ['--version'], { encoding: 'utf8' })
  if (version.status !== 0) return { missing: 'there is no python3' }
  const wanted = `${version.stdout}\n${readFileSync(requirements, 'utf8')}`
  const digest = createHash('sha256').update(wanted).digest('hex').slice(0, 16)
  const path = join(root, '.cache', `python-${digest}`)
  if (existsSync(path)) return { path }
  note('installing the Python packages of test/requirements.txt, once')
  const unfinished = `${path}.${process.pid}`
  mkdirSync(unfinished, { recursive: true })
  const quiet = ['--quiet', '--disable-pip-version-check', '--no-compile', '--no-warn-conflicts']
  const { status } = spawnSync(
    'python3',
    ['-m', 'pip', 'install', ...quiet, '--target', unfinished, '-r', requirements],
    { stdio: ['ignore', 2, 2] },
  )
  if (status !== 0) {
    rmSync(unfinished, { recursive: true, force: true })
    return { missing: 'pip could not install test/requirements.txt; its message is above' }
  }
  renameSync(unfinished, path)
  return { path }
}
