/**
 * Installs the peer, node-llama-cpp, into the cache: it is no dependency of Nozzle's. Its native
 * libraries are the very ones Nozzle's engine links, so that both do the same arithmetic.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const NODE_LLAMA_CPP_RELEASE = 'node-llama-cpp@3.22.1'
const DOWNLOAD_MB = 45
/** Below the checkout, so that the peer finds the platform package in our node_modules. */
const PEER_DIR = fileURLToPath(new URL('../../.cache/peer/', import.meta.url))

/** Path of the peer's entry module. Throws when npm cannot install it. */
export function ensureNodeLlamaCpp(): string {
  const entry = join(PEER_DIR, 'node_modules', 'node-llama-cpp', 'dist', 'index.js')
  if (existsSync(entry)) return entry
  process.stderr.write(
    `bench: installing the peer ${NODE_LLAMA_CPP_RELEASE}, about ${DOWNLOAD_MB} MB, once\n`,
  )
  mkdirSync(PEER_DIR, { recursive: true })
  writeFileSync(join(PEER_DIR, 'package.json'), '{"private":true}\n')
  const quiet = ['--no-fund', '--no-audit', '--ignore-scripts', '--loglevel=error']
  const result = spawnSync(
    'npm',
    ['install', NODE_LLAMA_CPP_RELEASE, '--omit=optional', ...quiet],
    {
      cwd: PEER_DIR,
      stdio: ['ignore', 2, 2],
    },
  )
  if (result.status !== 0) throw new Error(`npm could not install ${NODE_LLAMA_CPP_RELEASE}`)
  return entry
}
