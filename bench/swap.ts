/**
 * `swap`: what an adapter that is not in a slot costs its first request, from host RAM and from
 * disk, through the very cache that the host uses; and what swaps do to others' inter-token
 * latency.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { AdapterCache } from '../gpu-host/adapters/adapter-cache.ts'
import { DiskTier } from '../gpu-host/adapters/disk-tier.ts'
import { writePack } from '../gpu-host/adapters/pack-file.ts'
import { RamTier } from '../gpu-host/adapters/ram-tier.ts'
import { DirectoryStore } from '../gpu-host/adapters/store-tier.ts'
import { systemClock } from '../gpu-host/clock.ts'
import type { NativeEngine } from '../native/index.ts'
import { GREEDY } from '../native/test/support/requests.ts'
import type { SyntheticAdapter } from '../native/test/support/synthetic-adapter.ts'
import {
  type BenchDevice,
  createBenchAdapters,
  ensureShape,
  openBenchEngine,
  type ShapeName,
} from './lib/base-model.ts'
import { densePages } from './lib/generate.ts'
import { mean, median, percentile, significant } from './lib/statistics.ts'

export interface SwapOptions {
  readonly shape: ShapeName
  readonly rank: number
  /** Measured loads per tier and round. */
  readonly swaps: number
  readonly rounds: number
  readonly threads: number
  readonly on?: BenchDevice | undefined
}

/** More adapters than slots, taken in turn, so that every acquire misses and evicts. */
const SLOTS = 4
const ADAPTERS = 12
const DECODE_STEPS = 100
/** Between the starts of two swaps beside the decoding sequences. */
const SWAP_EVERY_MS = 20
/** Not 0: the cache refuses it. */
const NOTHING_FITS_BYTES = 1

export async function runSwap(options: SwapOptions) {
  const { shape, rank, swaps } = options
  const modelPath = await ensureShape(shape)
  const scratch = mkdtempSync(join(tmpdir(), 'nozzle-bench-'))
  const threads = options.threads || availableParallelism()
  const sizes = { slots: SLOTS, rank, sequences: 2, threads, on: options.on }
  const engine = await openBenchEngine(modelPath, sizes)
  try {
    const adapters = createBenchAdapters(engine, ADAPTERS, rank)
    const disk = await fillDisk(scratch, adapters)
    disk.warm()
    const digests = adapters.map((adapter) => adapter.manifest.digest)
    const cacheOf = (ramBytesMax: number): AdapterCache =>
      new AdapterCache({
        engine,
        store: new DirectoryStore(join(scratch, 'store')),
        disk,
        ram: new RamTier(ramBytesMax, engine),
        clock: systemClock,
        log: () => {},
      })
    const fromRam = cacheOf(Number.MAX_SAFE_INTEGER)
    for (const digest of digests) await fromRam.prefetch(digest)
    const fromDisk = cacheOf(NOTHING_FITS_BYTES)
    const rounds: Round[] = []
    // Turn by turn, so that what else the machine does falls on all alike.
    for (let round = 0; round < options.rounds; round++) {
      rounds.push({
        memcpyMs: timeCopies(adapters, swaps),
        ramMs: await timeAcquires(fromRam, digests, swaps),
        diskMs: await timeAcquires(fromDisk, digests, swaps),
        itl: await measureItl(engine, fromRam, digests),
      })
      process.stderr.write(`swap: round ${round + 1} of ${options.rounds}\n`)
    }
    return {
      shape,
      rank,
      device: engine.info.device,
      swaps,
      rounds: rounds.length,
      slot_bytes: adapters[0]?.payload.length ?? 0,
      ...toReport(rounds),
    }
  } finally {
    await engine.close()
    rmSync(scratch, { recursive: true, force: true })
  }
}

interface Round {
  readonly memcpyMs: readonly number[]
  readonly ramMs: readonly number[]
  readonly diskMs: readonly number[]
  readonly itl: { readonly aloneMs: readonly number[]; readonly duringMs: readonly number[] }
}

/** Times are percentiles over all rounds; ratios are medians of each round's own ratio. */
function toReport(rounds: readonly Round[]) {
  const all = (of: (round: Round) => readonly number[]): number[] => rounds.flatMap(of)
  const ratio = (of: (round: Round) => number): number => significant(median(rounds.map(of)))
  return {
    ram_ms: toPercentiles(all((round) => round.ramMs)),
    disk_ms: toPercentiles(all((round) => round.diskMs)),
    memcpy_ms: significant(median(all((round) => round.memcpyMs))),
    ratio_memcpy: ratio(({ ramMs, memcpyMs }) => median(ramMs) / median(memcpyMs)),
    swap_every_ms: SWAP_EVERY_MS,
    itl_alone_ms: toPercentiles(all(({ itl }) => itl.aloneMs)),
    itl_during_swaps_ms: toPercentiles(all(({ itl }) => itl.duringMs)),
    // Of means: a swap lengthens some steps only, and a median would not see them.
    itl_during_swaps_ratio: ratio(({ itl }) => mean(itl.duringMs) / mean(itl.aloneMs)),
  }
}

function toPercentiles(values: readonly number[]) {
  return { p50: significant(median(values)), p99: significant(percentile(values, 0.99)) }
}

/**
 * Packs as the host keeps them; reads come from the page cache, as they do on a host that has run.
 */
async function fillDisk(scratch: string, adapters: readonly SyntheticAdapter[]): Promise<DiskTier> {
  const store = new DirectoryStore(join(scratch, 'store'))
  const disk = await DiskTier.open({
    directory: join(scratch, 'disk'),
    bytesMax: Number.MAX_SAFE_INTEGER,
    log: () => {},
  })
  for (const adapter of adapters) {
    const { digest } = adapter.manifest
    const path = join(scratch, digest.replace(':', '-'))
    await writePack(path, adapter)
    await store.put(digest, path)
    const pack = await store.get(digest, AbortSignal.timeout(60_000))
    if (pack === null) throw new Error('the store lost a pack')
    await disk.write(digest, pack)
  }
  return disk
}

/** Milliseconds from asking for an adapter that is in no slot to holding its slot. */
async function timeAcquires(
  cache: AdapterCache,
  digests: readonly string[],
  count: number,
): Promise<number[]> {
  const times: number[] = []
  const warmUp = digests.length
  for (let i = 0; i < warmUp + count; i++) {
    const digest = digests[i % digests.length] ?? ''
    const startedAt = performance.now()
    const lease = await cache.acquire(digest, new AbortController().signal)
    if (i >= warmUp) times.push(performance.now() - startedAt)
    lease.release()
  }
  return times
}

/** Milliseconds of a plain copy of the same bytes, source and destination cold alike. */
function timeCopies(adapters: readonly SyntheticAdapter[], count: number): number[] {
  const sources = adapters.map((adapter) => Buffer.from(adapter.payload))
  const targets = Array.from({ length: SLOTS }, () => Buffer.alloc(sources[0]?.length ?? 0, 1))
  const times: number[] = []
  for (let i = 0; i < count; i++) {
    const startedAt = performance.now()
    sources[i % sources.length]?.copy(targets[i % SLOTS] ?? Buffer.alloc(0))
    times.push(performance.now() - startedAt)
  }
  return times
}

/** Step time of two decoding sequences: alone, and with a swap begun every SWAP_EVERY_MS. */
async function measureItl(engine: NativeEngine, cache: AdapterCache, digests: readonly string[]) {
  const own = await cache.acquire(digests[0] ?? '', new AbortController().signal)
  const aloneMs = await decode(engine, own.slot)
  const swaps: Promise<void>[] = []
  const swapOne = async (): Promise<void> => {
    const digest = digests[1 + (swaps.length % (digests.length - 1))] ?? ''
    const lease = await cache.acquire(digest, new AbortController().signal)
    lease.release()
  }
  const timer = setInterval(() => swaps.push(swapOne()), SWAP_EVERY_MS)
  const duringMs = await decode(engine, own.slot)
  clearInterval(timer)
  await Promise.all(swaps)
  own.release()
  return { aloneMs, duringMs }
}

/** Milliseconds of each step of two sequences that decode with one adapter. */
async function decode(engine: NativeEngine, slot: number): Promise<number[]> {
  for (const sequence of [0, 1]) {
    engine.openSequence(sequence, {
      sampling: GREEDY,
      topLogprobs: -1,
      promptTokens: new Int32Array(0),
      pages: densePages(engine, sequence, DECODE_STEPS),
    })
  }
  const times: number[] = []
  for (let position = 0; position < DECODE_STEPS; position++) {
    const startedAt = performance.now()
    await engine.step({
      tokens: Int32Array.of(300 + position, 400 + position),
      positions: Int32Array.of(position, position),
      sequences: Int32Array.of(0, 1),
      slots: Int32Array.of(slot, slot),
      outputs: Uint8Array.of(1, 1),
    })
    times.push(performance.now() - startedAt)
  }
  return times
}
