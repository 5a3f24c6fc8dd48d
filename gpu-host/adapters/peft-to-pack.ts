/**
 * PEFT files → pack, in memory: reads one tensor at a time, rounds it to F16 once, turns B round
 * and puts the rows of q and k where GGUF has them. The event loop gets a turn between modules, so
 * an upload never holds up a step.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { AdapterImage } from '../engine.ts'
import { sha256OfBytes } from './adapter-digest.ts'
import { PACK_BLOCK_ALIGN, type PackModule, TARGET_MODULES } from './adapter-pack.ts'
import type { PlannedModule } from './adapter-plan.ts'
import { type BaseShape, ggufRow } from './base-shape.ts'
import type { PeftConfig } from './peft-config.ts'
import type { SafetensorsFile } from './safetensors-reader.ts'

const HALF_BYTES = 2

export interface PackSource {
  readonly digest: string
  readonly config: PeftConfig
  readonly modules: readonly PlannedModule[]
  readonly weights: SafetensorsFile
  readonly base: BaseShape & { readonly baseModel: string; readonly baseDigest: string }
  /** Told after each module how many bytes of the pack are made, and of how many. */
  readonly onProgress?: ConversionProgress | undefined
}

export type ConversionProgress = (bytesDone: number, bytesTotal: number) => void

/** Rejects with `adapter_invalid` on weights that F16 cannot hold. */
export async function createPack(source: PackSource): Promise<AdapterImage> {
  const { digest, config, base, modules: planned, weights } = source
  const { modules, payloadBytes } = layOut(planned)
  const payload = new Uint8Array(payloadBytes)
  for (const [index, plan] of planned.entries()) {
    const module = modules[index]
    if (module === undefined) throw new Error('the layout lacks a module')
    const a = new Uint16Array(payload.buffer, module.a_offset, plan.rank * plan.nIn)
    const bt = new Uint16Array(payload.buffer, module.b_offset, plan.rank * plan.nOut)
    a.set(await weights.readHalves(plan.a))
    transpose(await weights.readHalves(plan.b), bt, plan, base)
    source.onProgress?.(modules[index + 1]?.a_offset ?? payloadBytes, payloadBytes)
    await nextTurn()
  }
  const used = new Set(planned.map(({ target }) => target))
  return {
    payload,
    manifest: {
      format: 1,
      digest,
      base_model: base.baseModel,
      base_digest: base.baseDigest,
      rank: Math.max(...planned.map(({ rank }) => rank)),
      alpha: config.alpha,
      use_rslora: config.useRslora,
      target_modules: TARGET_MODULES.filter((target) => used.has(target)),
      modules: [...modules],
      payload_bytes: payloadBytes,
      payload_sha256: await sha256OfBytes(payload),
    },
  }
}

function layOut(planned: readonly PlannedModule[]): {
  modules: readonly PackModule[]
  payloadBytes: number
} {
  let end = 0
  const reserve = (values: number): number => {
    const offset = end
    end = Math.ceil((offset + values * HALF_BYTES) / PACK_BLOCK_ALIGN) * PACK_BLOCK_ALIGN
    return offset
  }
  const modules = planned.map(({ layer, target, nIn, nOut, rank, scale }) => {
    const a_offset = reserve(rank * nIn)
    const b_offset = reserve(rank * nOut)
    return { layer, target, n_in: nIn, n_out: nOut, rank, a_offset, b_offset, scale }
  })
  return { modules, payloadBytes: end }
}

/** B [nOut, rank] → Bt [rank, nOut], its columns in GGUF's order. */
function transpose(
  b: Uint16Array,
  bt: Uint16Array,
  { target, nOut, rank }: PlannedModule,
  base: BaseShape,
): void {
  for (let row = 0; row < nOut; row += 1) {
    const column = ggufRow(base, target, row)
    for (let r = 0; r < rank; r += 1) bt[r * nOut + column] = b[row * rank + r] ?? 0
  }
}
