/**
 * `mix`: N sequences decode at once, each with its own adapter. Compared, in the same run and turn
 * by turn, with all on one adapter, with no adapter, and with the peer doing the same work.
 */
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import type { NativeEngine } from '../native/index.ts'
import { GREEDY } from '../native/test/support/requests.ts'
import { writeAdapterGguf } from '../native/test/support/synthetic-adapter.ts'
import {
  createBenchAdapters,
  ensureShape,
  openBenchEngine,
  type ShapeName,
} from './lib/base-model.ts'
import { median, significant } from './lib/statistics.ts'
import { ensurePeer, PEER } from './peers/install.ts'
import { PeerProcess } from './peers/peer-process.ts'
import { WORKLOADS, type Workload } from './peers/protocol.ts'

export interface MixOptions {
  readonly shape: ShapeName
  readonly tenants: number
  readonly rank: number
  readonly rounds: number
  /** 0 = one per core. */
  readonly threads: number
  readonly withPeer: boolean
}

/** One, so that what is measured is decoding. */
const PROMPT_TOKENS = 1
const COMPLETION_TOKENS = 64

/** Fields of the report are explained in this folder's README. */
export async function runMix(options: MixOptions) {
  const { shape, tenants, rank, rounds } = options
  const threads = options.threads || availableParallelism()
  const modelPath = await ensureShape(shape)
  const scratch = mkdtempSync(join(tmpdir(), 'nozzle-bench-'))
  const sizes = { slots: tenants, rank, sequences: tenants, threads }
  const engine = await openBenchEngine(modelPath, sizes)
  let peer: PeerProcess | null = null
  try {
    const adapters = createBenchAdapters(engine, tenants, rank)
    for (const [index, adapter] of adapters.entries()) await engine.loadSlot(index + 1, adapter)
    if (options.withPeer) {
      const adapterPaths = adapters.map((adapter, index) => {
        const path = join(scratch, `${index}.gguf`)
        writeAdapterGguf(path, adapter, 'F16')
        return path
      })
      peer = await PeerProcess.start({
        entry: ensurePeer(),
        modelPath,
        adapterPaths,
        threads,
        promptTokens: PROMPT_TOKENS,
        completionTokens: COMPLETION_TOKENS,
      })
    }
    const measured = await measureRounds(engine, peer, tenants, rounds)
    const baseBytes = statSync(modelPath).size
    const adapterBytes = adapters[0]?.payload.length ?? 0
    return {
      shape,
      tenants,
      rank,
      threads,
      device: engine.info.device,
      rounds,
      ...floors(baseBytes, adapterBytes, tenants),
      ...toReport(measured),
    }
  } finally {
    peer?.stop()
    await engine.close()
    rmSync(scratch, { recursive: true, force: true })
  }
}

type Round = Record<Workload, number> & { readonly peer: Record<Workload, number> | null }

/**
 * One round = every workload once, ours and the peer's next to each other. The first is a warm-up.
 */
async function measureRounds(
  engine: NativeEngine,
  peer: PeerProcess | null,
  tenants: number,
  rounds: number,
): Promise<Round[]> {
  const all: Round[] = []
  for (let round = 0; round <= rounds; round++) {
    const ours = { distinct: 0, same: 0, base: 0 }
    const theirs = { distinct: 0, same: 0, base: 0 }
    for (const workload of WORKLOADS) {
      ours[workload] = await decodeTogether(engine, workload, tenants)
      if (peer !== null) theirs[workload] = await peer.run(workload)
    }
    if (round > 0) all.push({ ...ours, peer: peer === null ? null : theirs })
    process.stderr.write(`mix: round ${round}: ${JSON.stringify({ ours, theirs })}\n`)
  }
  return all
}

/** Completion tokens per second of `count` requests at once. */
async function decodeTogether(
  engine: NativeEngine,
  workload: Workload,
  count: number,
): Promise<number> {
  const slots = Int32Array.from({ length: count }, (_, index) =>
    workload === 'distinct' ? index + 1 : workload === 'same' ? 1 : 0,
  )
  for (let sequence = 0; sequence < count; sequence++) {
    const promptTokens = new Int32Array(0)
    engine.openSequence(sequence, { sampling: GREEDY, topLogprobs: -1, promptTokens })
  }
  const startedAt = performance.now()
  let next = await prefill(engine, slots)
  for (let token = 1; token < COMPLETION_TOKENS; token++) {
    const { sampled } = await engine.step({
      tokens: next,
      positions: new Int32Array(count).fill(PROMPT_TOKENS + token - 1),
      sequences: Int32Array.from({ length: count }, (_, index) => index),
      slots,
      outputs: new Uint8Array(count).fill(1),
    })
    next = Int32Array.from(sampled, (drawn) => drawn.token)
  }
  const seconds = (performance.now() - startedAt) / 1000
  return (count * COMPLETION_TOKENS) / seconds
}

/** All prompts in one step; gives the first token of each. */
async function prefill(engine: NativeEngine, slots: Int32Array): Promise<Int32Array> {
  const rows = slots.length * PROMPT_TOKENS
  const sequenceOf = (row: number): number => Math.floor(row / PROMPT_TOKENS)
  const fill = (value: (row: number) => number): Int32Array =>
    Int32Array.from({ length: rows }, (_, row) => value(row))
  const { sampled } = await engine.step({
    tokens: fill((row) => 300 + sequenceOf(row) * 31 + (row % PROMPT_TOKENS)),
    positions: fill((row) => row % PROMPT_TOKENS),
    sequences: fill(sequenceOf),
    slots: fill((row) => slots[sequenceOf(row)] ?? 0),
    outputs: Uint8Array.from(fill((row) => (row % PROMPT_TOKENS === PROMPT_TOKENS - 1 ? 1 : 0))),
  })
  return Int32Array.from(sampled, (drawn) => drawn.token)
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

/** Speeds are medians over rounds; ratios are medians of each round's own ratio. */
function toReport(rounds: readonly Round[]) {
  const of = (value: (round: Round) => number): number => significant(median(rounds.map(value)))
  const withPeer = rounds.flatMap((round) => (round.peer === null ? [] : [round.peer]))
  const peerOf = (workload: Workload): number | null =>
    withPeer.length === 0 ? null : significant(median(withPeer.map((peer) => peer[workload])))
  return {
    distinct_tok_s: of((round) => round.distinct),
    same_tok_s: of((round) => round.same),
    base_tok_s: of((round) => round.base),
    peer: withPeer.length === 0 ? null : PEER,
    peer_distinct_tok_s: peerOf('distinct'),
    peer_same_tok_s: peerOf('same'),
    peer_base_tok_s: peerOf('base'),
    ratio_same: of((round) => round.distinct / round.same),
    ratio_base: of((round) => round.distinct / round.base),
    ratio_peer:
      withPeer.length === 0
        ? null
        : of((round) => round.distinct / (round.peer?.distinct ?? Number.NaN)),
  }
}
