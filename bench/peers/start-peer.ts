/** The peers by name, and what each needs to start. */
import { fileURLToPath } from 'node:url'
import { LlamaServer } from './llama-server.ts'
import { ensureNodeLlamaCpp, NODE_LLAMA_CPP_RELEASE } from './node-llama-cpp-install.ts'
import { PeerProcess } from './peer-process.ts'
import type { Peer, PeerSetup } from './protocol.ts'
import { startVllm, type VllmSetup } from './vllm.ts'

export const PEERS = ['node-llama-cpp', 'llama-server', 'vllm'] as const
export type PeerName = (typeof PEERS)[number]

const NODE_LLAMA_CPP = fileURLToPath(new URL('./node-llama-cpp.ts', import.meta.url))

/** What all peers together need; `shape` is null where the base model has no generator. */
export type PeersSetup = PeerSetup & Omit<VllmSetup, 'shape'> & { shape: VllmSetup['shape'] | null }

/** Rejects with what is missing, or with the peer's own message. */
export async function startPeer(name: PeerName, setup: PeersSetup): Promise<Peer> {
  const { shape, adapters: _, scratch: __, ...plain } = setup
  switch (name) {
    case 'node-llama-cpp': {
      const own = [NODE_LLAMA_CPP, ensureNodeLlamaCpp(), NODE_LLAMA_CPP_RELEASE]
      const args = [...process.execArgv, ...own]
      return PeerProcess.start({ command: process.execPath, args }, plain)
    }
    case 'llama-server':
      return LlamaServer.start(plain)
    case 'vllm':
      if (shape === null) {
        throw new RangeError('vllm takes --shape demo, 1b or 7b, whose weights it gets in BF16')
      }
      return startVllm({ ...setup, shape })
  }
}
