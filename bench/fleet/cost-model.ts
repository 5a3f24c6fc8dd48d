/**
 * What a simulated host's work costs, and how large its tiers are. Costs come from what other
 * benchmarks measured on the real engine: the files are read, not copied, and every figure keeps
 * the name of the file it came from.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'

/** Milliseconds. */
export interface StepCosts {
  /** Of any step. */
  readonly baseMs: number
  /** Of each row that decodes, or ends a prompt. */
  readonly decodeRowMs: number
  /** Of each row of a prompt. */
  readonly promptRowMs: number
  /** Of each row with an adapter. */
  readonly adapterRowMs: number
  /** Of each adapter in the step. */
  readonly distinctMs: number
}

export interface LoadCosts {
  /** RAM → slot. */
  readonly copyMs: number
  /** Disk → RAM. */
  readonly diskMs: number
  /** Store → disk → RAM. */
  readonly storeMs: number
  /** Part of a copy by which it lengthens the step beside it. */
  readonly copyDrag: number
}

export interface HostSizes {
  readonly slots: number
  readonly sequences: number
  /** Adapters that fit. */
  readonly ramAdapters: number
  readonly diskAdapters: number
  readonly rowsMax: number
  readonly prefillRowsMax: number
}

export interface CostModel {
  readonly step: StepCosts
  readonly load: LoadCosts
  readonly host: HostSizes
  /** Edge and network, from the client's call to the host's queue and back with the first token. */
  readonly pathMs: number
  /** Figure → where it came from. */
  readonly sources: Readonly<Record<string, string>>
}

const RESULTS = join(import.meta.dirname, '..', 'results')
const GIB = 2 ** 30
/** gpu-host/config.ts, its defaults. */
const HOST_DEFAULTS = {
  slots: 16,
  sequences: 16,
  rowsMax: 256,
  prefillRowsMax: 256,
  ramBytes: 2 * GIB,
  diskBytes: 20 * GIB,
}
/** As the eviction policy reckons; a store far away was not measured. */
const STORE_MS = 60
const PATH_MS = 2

const mixReport = z.object({
  tenants: z.int(),
  adapter_bytes: z.int(),
  distinct_tok_s: z.number(),
  same_tok_s: z.number(),
  base_tok_s: z.number(),
})
const baseReport = z.object({
  decode_tok_s: z.record(z.string(), z.number()),
  prefill_tok_s: z.number(),
})
const swapReport = z.object({
  ram_ms: z.object({ p50: z.number() }),
  disk_ms: z.object({ p50: z.number() }),
  itl_alone_ms: z.object({ p50: z.number() }),
  itl_during_swaps_ratio: z.number(),
  swap_every_ms: z.number(),
})

/** Of a host with the `demo` shape and two cores, by the newest results of `mix`, `base`, `swap`. */
export function measuredCosts(): CostModel {
  const mix = readNewest(/^mix-demo-\d{4}-.*\.json$/, mixReport)
  const base = readNewest(/^base-demo-.*\.json$/, baseReport)
  const swap = readNewest(/^swap-demo-.*\.json$/, swapReport)
  const perToken = fitLine(
    Object.entries(base.report.decode_tok_s).map(([rows, rate]) => [
      Number(rows),
      (Number(rows) * 1000) / rate,
    ]),
  )
  const { tenants: rows, adapter_bytes: adapterBytes } = mix.report
  const stepMs = (rate: number): number => (rows * 1000) / rate
  const distinctMs =
    (stepMs(mix.report.distinct_tok_s) - stepMs(mix.report.same_tok_s)) / (rows - 1)
  const adapterRowMs = Math.max(
    0,
    (stepMs(mix.report.same_tok_s) - stepMs(mix.report.base_tok_s) - distinctMs) / rows,
  )
  const { ram_ms, disk_ms, itl_alone_ms, itl_during_swaps_ratio, swap_every_ms } = swap.report
  // What each swap added to the steps between two swaps, as a part of the copy itself.
  const addedMs = (itl_during_swaps_ratio - 1) * itl_alone_ms.p50
  const dragMs = addedMs * (swap_every_ms / itl_alone_ms.p50)
  return {
    step: {
      baseMs: perToken.start,
      decodeRowMs: perToken.slope,
      promptRowMs: 1000 / base.report.prefill_tok_s,
      adapterRowMs,
      distinctMs,
    },
    load: {
      copyMs: ram_ms.p50,
      diskMs: disk_ms.p50,
      storeMs: STORE_MS,
      copyDrag: Math.max(0, dragMs / ram_ms.p50),
    },
    host: {
      slots: HOST_DEFAULTS.slots,
      sequences: HOST_DEFAULTS.sequences,
      rowsMax: HOST_DEFAULTS.rowsMax,
      prefillRowsMax: HOST_DEFAULTS.prefillRowsMax,
      ramAdapters: Math.floor(HOST_DEFAULTS.ramBytes / adapterBytes),
      diskAdapters: Math.floor(HOST_DEFAULTS.diskBytes / adapterBytes),
    },
    pathMs: PATH_MS,
    sources: {
      'step.baseMs, decodeRowMs': `${base.file}: line through decode_tok_s`,
      'step.promptRowMs': `${base.file}: prefill_tok_s`,
      'step.distinctMs, adapterRowMs': `${mix.file}: distinct, same and base_tok_s`,
      'load.copyMs, diskMs': `${swap.file}: medians`,
      'load.copyDrag': `${swap.file}: itl_during_swaps_ratio`,
      'load.storeMs, pathMs': 'assumed',
      host: `gpu-host/config.ts: defaults, by the adapter_bytes of ${mix.file}`,
    },
  }
}

/** Of a step with these rows. */
export function stepTimeMs(
  costs: StepCosts,
  rows: { readonly decode: number; readonly prompt: number; readonly distinct: number },
): number {
  return (
    costs.baseMs +
    costs.decodeRowMs * rows.decode +
    costs.promptRowMs * rows.prompt +
    costs.adapterRowMs * (rows.decode + rows.prompt) +
    costs.distinctMs * rows.distinct
  )
}

/** Requests per second that a host serves when every place runs, each with its own adapter. */
export function capacityRps(
  { step, host }: CostModel,
  mean: { readonly prompt: number; readonly completion: number },
): number {
  const rows = { decode: host.sequences, prompt: 0, distinct: host.sequences }
  const decodeMs = (stepTimeMs(step, rows) * mean.completion) / host.sequences
  const promptMs = (step.promptRowMs + step.adapterRowMs) * mean.prompt
  return 1000 / (decodeMs + promptMs)
}

/** Least squares. */
function fitLine(points: readonly (readonly [number, number])[]) {
  const mean = (at: 0 | 1): number => points.reduce((sum, p) => sum + p[at], 0) / points.length
  const [meanX, meanY] = [mean(0), mean(1)]
  let over = 0
  let under = 0
  for (const [x, y] of points) {
    over += (x - meanX) * (y - meanY)
    under += (x - meanX) ** 2
  }
  const slope = over / under
  return { slope, start: meanY - slope * meanX }
}

function readNewest<T>(pattern: RegExp, parser: z.ZodType<T>): { file: string; report: T } {
  const file = readdirSync(RESULTS)
    .filter((name) => pattern.test(name))
    .sort()
    .at(-1)
  if (file === undefined) throw new Error(`bench/results has no file like ${pattern.source}`)
  const text = readFileSync(join(RESULTS, file), 'utf8')
  return { file, report: parser.parse(JSON.parse(text)) }
}
