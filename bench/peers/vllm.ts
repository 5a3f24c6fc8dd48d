/**
 * The peer vLLM: installed on demand into a virtual environment in the cache, given the base model
 * and the adapters in its own formats, and the settings that were fastest here (README).
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { NATIVE_PATHS } from '../../native/paths.ts'
import type { SyntheticAdapter } from '../../native/test/support/synthetic-adapter.ts'
import type { SyntheticShape } from '../../native/test/support/synthetic-gguf.ts'
import { ensureHuggingFaceModel, writePeftAdapter } from './hugging-face-files.ts'
import { PeerProcess } from './peer-process.ts'
import type { Peer, PeerSetup } from './protocol.ts'
import { ensurePythonPeer } from './python-environment.ts'

const REQUIREMENTS = fileURLToPath(new URL('./vllm-requirements.txt', import.meta.url))
const ENTRY = fileURLToPath(new URL('./vllm-peer.py', import.meta.url))
const ENVIRONMENT_DIR = join(NATIVE_PATHS.cacheDir, 'vllm')

export interface VllmSetup extends Omit<PeerSetup, 'modelPath' | 'adapterPaths'> {
  readonly shape: SyntheticShape
  readonly adapters: readonly SyntheticAdapter[]
  /** For the adapters' files. */
  readonly scratch: string
}

export async function startVllm(setup: VllmSetup): Promise<Peer> {
  const python = ensureVllm()
  const { shape, adapters, scratch, ...rest } = setup
  const folder = join(NATIVE_PATHS.cacheDir, 'bench', `${shape.name}-bf16`)
  const modelPath = ensureHuggingFaceModel(folder, shape)
  const adapterPaths = adapters.map((adapter, index) => {
    const directory = join(scratch, `peft-${index}`)
    writePeftAdapter(directory, adapter, shape)
    return directory
  })
  // In this process: no second one to pass tokens to.
  const env = { ...vllmEnv(rest.threads), VLLM_ENABLE_V1_MULTIPROCESSING: '0' }
  const command = { command: python, args: [ENTRY], env }
  return PeerProcess.start(command, { ...rest, modelPath, adapterPaths })
}

/** What vLLM needs on a CPU, on so many threads. */
export function vllmEnv(threads: number): Record<string, string> {
  return {
    VLLM_CPU_OMP_THREADS_BIND: `0-${threads - 1}`,
    VLLM_CPU_KVCACHE_SPACE: '1',
    VLLM_LOGGING_LEVEL: 'ERROR',
    VLLM_NO_USAGE_STATS: '1',
    HF_HUB_OFFLINE: '1',
    LD_PRELOAD: listPreloads().join(':'),
  }
}

/** Path of a Python that has vLLM. Throws when it cannot be installed. */
export function ensureVllm(): string {
  return ensurePythonPeer({
    name: 'vLLM for the CPU',
    directory: ENVIRONMENT_DIR,
    requirements: REQUIREMENTS,
    size: '2.9 GB to download, 5.9 GB on disk',
  })
}

/** What vLLM's manual says to preload: Intel's OpenMP, which comes with it, and tcmalloc. */
function listPreloads(): string[] {
  const openmp = join(ENVIRONMENT_DIR, 'lib', 'libiomp5.so')
  const { stdout } = spawnSync('/sbin/ldconfig', ['-p'], { encoding: 'utf8' })
  const tcmalloc = /libtcmalloc_minimal\.so\.4 .*=> (\S+)/.exec(stdout ?? '')?.[1]
  if (tcmalloc === undefined) {
    process.stderr.write(
      'bench: vLLM is up to a fifth faster with tcmalloc (Debian/Ubuntu: apt-get install libtcmalloc-minimal4)\n',
    )
  }
  return [openmp, ...(tcmalloc === undefined ? [] : [tcmalloc])]
}
