/** Installs a peer from npm into the cache, once: it is no dependency of Nozzle's. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface NpmPeer {
  /** Below the checkout's cache. */
  readonly directory: string
  /** `name@version`. */
  readonly release: string
  /** That the install brings, below `directory`. */
  readonly entry: string
  readonly downloadMb: number
  readonly flags?: readonly string[]
  /** Versions of what it needs, where those that npm would choose do not work. */
  readonly overrides?: Readonly<Record<string, string>>
}

/** Path of the peer's entry. Throws when npm cannot install it. */
export function ensureNpmPeer(peer: NpmPeer): string {
  const { directory, release, downloadMb, flags = [], overrides = {} } = peer
  const entry = join(directory, peer.entry)
  if (existsSync(entry)) return entry
  process.stderr.write(`bench: installing the peer ${release}, about ${downloadMb} MB, once\n`)
  mkdirSync(directory, { recursive: true })
  writeFileSync(join(directory, 'package.json'), JSON.stringify({ private: true, overrides }))
  const quiet = ['--no-fund', '--no-audit', '--ignore-scripts', '--loglevel=error']
  const result = spawnSync('npm', ['install', release, ...flags, ...quiet], {
    cwd: directory,
    stdio: ['ignore', 2, 2],
  })
  if (result.status !== 0) throw new Error(`npm could not install ${release}`)
  return entry
}
