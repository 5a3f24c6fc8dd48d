/**
 * A pack → the PEFT folder that vLLM reads: the same weights in F16, with one rank and one scale
 * for all modules, since older servers know no other. Smaller ranks are filled up with zeros; where
 * scales differ, B takes up the difference, in one more rounding.
 */
import { mkdir, open, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { PackManifest, PackModule } from '../adapters/adapter-pack.ts'
import { peftModuleName } from '../adapters/base-shape.ts'
import type { AdapterImage } from '../engine.ts'

const HALF_BYTES = 2
const LENGTH_BYTES = 8
const HEADER_ALIGN = 8

/** Writes the folder anew; whoever reads `directory` sees all of it or nothing. */
export async function writePeftFolder(directory: string, image: AdapterImage): Promise<void> {
  const staged = `${directory}.part`
  await removeFolder(staged)
  await mkdir(staged, { recursive: true })
  const { manifest } = image
  const scale = Math.max(...manifest.modules.map((module) => module.scale))
  await writeFile(join(staged, 'adapter_config.json'), JSON.stringify(toConfig(manifest, scale)))
  await writeWeights(join(staged, 'adapter_model.safetensors'), image, scale)
  await removeFolder(directory)
  await rename(staged, directory)
}

export async function removeFolder(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true })
}

function toConfig({ rank, modules }: PackManifest, scale: number): object {
  return {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    r: rank,
    lora_alpha: scale * rank,
    lora_dropout: 0,
    bias: 'none',
    // In full: an adapter may change a module in one layer and not in another.
    target_modules: modules.map(({ layer, target }) => peftModuleName(layer, target)),
  }
}

async function writeWeights(path: string, image: AdapterImage, scale: number): Promise<void> {
  const { manifest, payload } = image
  const file = await open(path, 'wx')
  try {
    await file.write(toHeader(manifest))
    for (const module of manifest.modules) {
      await file.write(bytesOf(readA(payload, module, manifest.rank)))
      await file.write(bytesOf(readB(payload, module, manifest.rank, scale)))
      await nextTurn()
    }
  } finally {
    await file.close()
  }
}

function toHeader({ modules, rank }: PackManifest): Buffer {
  let end = 0
  const entries = modules.flatMap(({ layer, target, n_in, n_out }) => {
    const name = `base_model.model.${peftModuleName(layer, target)}`
    const entry = (suffix: string, shape: readonly [number, number]) => {
      const begin = end
      end += shape[0] * shape[1] * HALF_BYTES
      return [`${name}.${suffix}.weight`, { dtype: 'F16', shape, data_offsets: [begin, end] }]
    }
    return [entry('lora_A', [rank, n_in]), entry('lora_B', [n_out, rank])]
  })
  const text = JSON.stringify(Object.fromEntries(entries))
  const header = Buffer.from(text.padEnd(Math.ceil(text.length / HEADER_ALIGN) * HEADER_ALIGN))
  const length = Buffer.alloc(LENGTH_BYTES)
  length.writeBigUInt64LE(BigInt(header.length))
  return Buffer.concat([length, header])
}

/** [rank, n_in], as the pack has it. */
function readA(payload: Uint8Array, module: PackModule, rank: number): Float16Array {
  const a = new Float16Array(rank * module.n_in)
  a.set(halvesAt(payload, module.a_offset, module.rank * module.n_in))
  return a
}

/** [n_out, rank], from the pack's [rank, n_out]. */
function readB(payload: Uint8Array, module: PackModule, rank: number, scale: number): Float16Array {
  const { n_out: nOut, b_offset } = module
  const bt = halvesAt(payload, b_offset, module.rank * nOut)
  const share = scale === 0 ? 0 : module.scale / scale
  const b = new Float16Array(nOut * rank)
  for (let r = 0; r < module.rank; r += 1) {
    for (let out = 0; out < nOut; out += 1) b[out * rank + r] = (bt[r * nOut + out] ?? 0) * share
  }
  return b
}

function halvesAt(payload: Uint8Array, offset: number, count: number): Float16Array {
  return new Float16Array(payload.buffer, payload.byteOffset + offset, count)
}

function bytesOf(values: Float16Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}
