/**
 * Installs the peer, node-llama-cpp. Its native libraries are the very ones Nozzle's engine links,
 * so that both do the same arithmetic.
 */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ensureNpmPeer } from './npm-peer.ts'

export const NODE_LLAMA_CPP_RELEASE = 'node-llama-cpp@3.22.1'
/** Below the checkout, so that the peer finds the platform package in our node_modules. */
const PEER_DIR = fileURLToPath(new URL('../../.cache/peer/', import.meta.url))

/** Path of the peer's entry module. Throws when npm cannot install it. */
export function ensureNodeLlamaCpp(): string {
  return ensureNpmPeer({
    directory: PEER_DIR,
    release: NODE_LLAMA_CPP_RELEASE,
    entry: join('node_modules', 'node-llama-cpp', 'dist', 'index.js'),
    downloadMb: 45,
    flags: ['--omit=optional'],
  })
}
