/** Takes a good PEFT adapter apart and writes it again, changed, whatever the change. */
import { readFileSync, writeFileSync } from 'node:fs'
import { z } from 'zod'
import { adapterPaths } from './vectors.ts'

export interface TensorPart {
  name: string
  dtype: string
  shape: number[]
  bytes: Uint8Array
}

export interface AdapterParts {
  config: Record<string, unknown>
  tensors: TensorPart[]
}

const headerSchema = z.record(
  z.string(),
  z.object({
    dtype: z.string(),
    shape: z.array(z.number()),
    data_offsets: z.tuple([z.number(), z.number()]),
  }),
)

export function readParts(directory: string): AdapterParts {
  const { configPath, weightsPath } = adapterPaths(directory)
  const config = z
    .record(z.string(), z.unknown())
    .parse(JSON.parse(readFileSync(configPath, 'utf8')))
  const file = readFileSync(weightsPath)
  const dataStart = 8 + Number(file.readBigUInt64LE())
  const { __metadata__, ...entries } = JSON.parse(file.toString('utf8', 8, dataStart))
  const tensors = Object.entries(headerSchema.parse(entries)).map(([name, entry]) => {
    const [begin, end] = entry.data_offsets
    const bytes = file.subarray(dataStart + begin, dataStart + end)
    return { name, dtype: entry.dtype, shape: entry.shape, bytes }
  })
  return { config, tensors }
}

export type HeaderEntry = { dtype: unknown; shape: unknown; data_offsets: unknown }

/** One tensor after the other, as a sound writer lays them out. */
export function layOut(tensors: readonly TensorPart[]): {
  header: Record<string, HeaderEntry>
  data: Buffer
} {
  const header: Record<string, HeaderEntry> = {}
  let end = 0
  for (const { name, dtype, shape, bytes } of tensors) {
    header[name] = { dtype, shape, data_offsets: [end, end + bytes.length] }
    end += bytes.length
  }
  return { header, data: Buffer.concat(tensors.map(({ bytes }) => bytes)) }
}

export function encodeWeights(header: string, data: Uint8Array): Buffer {
  const text = Buffer.from(header)
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(BigInt(text.length))
  return Buffer.concat([prefix, text, data])
}

export function writeFiles(
  directory: string,
  config: string | Uint8Array,
  weights: Uint8Array,
): void {
  const { configPath, weightsPath } = adapterPaths(directory)
  writeFileSync(configPath, config)
  writeFileSync(weightsPath, weights)
}

export function writeParts(directory: string, { config, tensors }: AdapterParts): void {
  const { header, data } = layOut(tensors)
  writeFiles(directory, JSON.stringify(config), encodeWeights(JSON.stringify(header), data))
}
