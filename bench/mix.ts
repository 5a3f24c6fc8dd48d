/**
 * `mix`: N sequences decode at once, each with its own adapter. Compared, in the same run and turn
 * by turn, with all on one adapter, with no adapter, and with peers doing the same work.
 */
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { NativeEngine } from '../native/index.ts'
import {
  type SyntheticAdapter,
  writeAdapterGguf,
} from '../native/test/support/synthetic-adapter.ts'
import {
  type BenchDevice,
  createBenchAdapters,
  ensureShape,
  openBenchEngine,
  type ShapeName,
  syntheticShapeOf,
} from './lib/base-model.ts'
import { generateTogether } from './lib/generate.ts'
import { countAgreed, type Figures, toReport } from './lib/mix-report.ts'
import { significant } from './lib/statistics.ts'
import {
  type Peer,
  type PeerRun,
  promptOf,
  SETTLE_MS,
  WORKLOADS,
  type Workload,
} from './peers/protocol.ts'
import { type PeerName, startPeer } from './peers/start-peer.ts'

export interface MixOptions {
  readonly shape: ShapeName
  readonly tenants: number
  readonly rank: number
  readonly rounds: number
  /** Completion tokens of each request. */
  readonly tokens: number
  /** 0 = one per core. */
  readonly threads: number
  readonly peers: readonly PeerName[]
  readonly on?: BenchDevice | undefined
}

interface Runner {
  readonly name: string
  run(workload: Workload): Promise<PeerRun>
}

/** Fields of the report are explained in this folder's README. */
export async function runMix(options: MixOptions) {
  const { shape, tenants, rank, rounds, tokens } = options
  const threads = options.threads || availableParallelism()
  const modelPath = await ensureShape(shape)
  const scratch = mkdtempSync(join(tmpdir(), 'nozzle-bench-'))
  const sizes = { slots: tenants, rank, sequences: tenants, threads, on: options.on }
  const engine = await openBenchEngine(modelPath, sizes)
  const peers: { name: PeerName; peer: Peer }[] = []
  try {
    const adapters = createBenchAdapters(engine, tenants, rank)
    for (const [index, adapter] of adapters.entries()) await engine.loadSlot(index + 1, adapter)
    const prompts = adapters.map((_, index) => promptOf(index))
    const setup = {
      ...{ modelPath, rank, threads, prompts, adapters, scratch, completionTokens: tokens },
      adapterPaths: options.peers.length === 0 ? [] : writeAdapters(scratch, adapters),
      shape: syntheticShapeOf(shape),
    }
    for (const name of options.peers) peers.push({ name, peer: await startPeer(name, setup) })
    const ours = { name: 'ours', run: (work: Workload) => runOurs(engine, prompts, work, tokens) }
    const theirs = peers.map(({ name, peer }) => ({
      name,
      run: (work: Workload) => peer.run(work),
    }))
    const measured = await measureRounds([ours, ...theirs], rounds)
    return {
      shape,
      tenants,
      rank,
      threads,
      device: engine.info.device,
      rounds,
      tokens,
      ...floors(statSync(modelPath).size, adapters[0]?.payload.length ?? 0, tenants),
      ...toReport(
        measured,
        peers.map(({ name, peer }) => ({ name, settings: peer.settings })),
      ),
    }
  } finally {
    for (const { peer } of peers) await peer.stop()
    await engine.close()
    rmSync(scratch, { recursive: true, force: true })
  }
}

/** As LoRA GGUF files in F16, as llama.cpp's users have them. */
function writeAdapters(scratch: string, adapters: readonly SyntheticAdapter[]): string[] {
  return adapters.map((adapter, index) => {
    const path = join(scratch, `${index}.gguf`)
    writeAdapterGguf(path, adapter, 'F16')
    return path
  })
}

/**
 * One round = every workload once, all runners next to each other, ours first in one round and last
 * in the next. The first round is a warm-up. Outer index round, inner runner.
 */
async function measureRounds(runners: readonly Runner[], rounds: number): Promise<Figures[][]> {
  const all: Figures[][] = []
  for (let round = 0; round <= rounds; round++) {
    const figures = runners.map(() => ({ speeds: { distinct: 0, same: 0, base: 0 }, agreed: 0 }))
    for (const workload of WORKLOADS) {
      const runs: PeerRun[] = []
      const order = runners.map((_, index) => index)
      if (round % 2 === 1) order.reverse()
      for (const index of order) {
        const [runner, figure] = [runners[index], figures[index]]
        if (!runner || !figure) continue
        await sleep(SETTLE_MS)
        runs[index] = await runner.run(workload)
        figure.speeds[workload] = runs[index].tokensPerSecond
        const speed = significant(figure.speeds[workload])
        process.stderr.write(`mix: round ${round}: ${workload}, ${runner.name}: ${speed} tok/s\n`)
      }
      if (workload !== 'distinct') continue
      for (const [index, figure] of figures.entries())
        figure.agreed = countAgreed(runs[0], runs[index])
    }
    if (round > 0) all.push(figures)
  }
  return all
}

async function runOurs(
  engine: NativeEngine,
  prompts: readonly number[],
  workload: Workload,
  tokens: number,
): Promise<PeerRun> {
  const slots = prompts.map((_, index) =>
    workload === 'distinct' ? index + 1 : workload === 'same' ? 1 : 0,
  )
  const { completions, prefillMs, decodeMs } = await generateTogether(
    engine,
    prompts.map((prompt) => [prompt]),
    slots,
    tokens,
  )
  return { tokensPerSecond: (1000 * prompts.length * tokens) / (prefillMs + decodeMs), completions }
}

/**
 * Best possible ratios if a step cost exactly the bytes it must read: base once, each adapter once.
 */
function floors(baseBytes: number, adapterBytes: number, tenants: number) {
  const distinct = baseBytes + tenants * adapterBytes
  return {
    base_bytes: baseBytes,
    adapter_bytes: adapterBytes,
    floor_ratio_same: significant((baseBytes + adapterBytes) / distinct),
    floor_ratio_base: significant(baseBytes / distinct),
  }
}
