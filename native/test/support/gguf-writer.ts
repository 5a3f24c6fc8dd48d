/**
 * Writes GGUF version 3: a header, key-value metadata, tensor descriptions, then the tensors'
 * bytes, each at a multiple of ALIGNMENT. Bytes are drawn in chunks and written at once, so that a
 * model of gigabytes needs megabytes.
 */
import { closeSync, openSync, writeSync } from 'node:fs'

const MAGIC = 'GGUF'
const VERSION = 3
/** GGUF's default, so `general.alignment` need not be written. */
const ALIGNMENT = 32
export const Q8_BLOCK_BYTES = 34

/** ggml's number of a type, and what its smallest piece of a row holds. */
const TENSOR_TYPES = {
  F32: { id: 0, blockValues: 1, blockBytes: 4 },
  F16: { id: 1, blockValues: 1, blockBytes: 2 },
  BF16: { id: 30, blockValues: 1, blockBytes: 2 },
  Q4_0: { id: 2, blockValues: 32, blockBytes: 18 },
  Q4_1: { id: 3, blockValues: 32, blockBytes: 20 },
  Q5_0: { id: 6, blockValues: 32, blockBytes: 22 },
  Q5_1: { id: 7, blockValues: 32, blockBytes: 24 },
  Q8_0: { id: 8, blockValues: 32, blockBytes: Q8_BLOCK_BYTES },
  Q2_K: { id: 10, blockValues: 256, blockBytes: 84 },
  Q3_K: { id: 11, blockValues: 256, blockBytes: 110 },
  Q4_K: { id: 12, blockValues: 256, blockBytes: 144 },
  Q5_K: { id: 13, blockValues: 256, blockBytes: 176 },
  Q6_K: { id: 14, blockValues: 256, blockBytes: 210 },
  IQ3_XXS: { id: 18, blockValues: 256, blockBytes: 98 },
  IQ3_S: { id: 21, blockValues: 256, blockBytes: 110 },
  IQ4_NL: { id: 20, blockValues: 32, blockBytes: 18 },
  IQ4_XS: { id: 23, blockValues: 256, blockBytes: 136 },
} as const
export type TensorType = keyof typeof TENSOR_TYPES

const VALUE_TYPES = { u32: 4, i32: 5, f32: 6, bool: 7, text: 8, list: 9 } as const

export type MetadataValue =
  | { readonly u32: number }
  | { readonly f32: number }
  | { readonly bool: boolean }
  | { readonly text: string }
  | { readonly texts: readonly string[] }
  | { readonly i32s: readonly number[] }

export interface TensorSource {
  readonly name: string
  readonly type: TensorType
  /** ggml's order: the length of a row first. */
  readonly shape: readonly [number] | readonly [number, number]
  /** `tensorBytes` of bytes in all; a chunk is used up before the next is drawn. */
  readonly chunks: () => Iterable<Uint8Array>
}

export function tensorBytes({ type, shape }: Pick<TensorSource, 'type' | 'shape'>): number {
  const [rowLength, rows = 1] = shape
  const { blockValues, blockBytes } = TENSOR_TYPES[type]
  if (rowLength % blockValues !== 0) {
    throw new RangeError(`a ${type} row of ${rowLength} is not whole blocks`)
  }
  return (rowLength / blockValues) * rows * blockBytes
}

export function writeGguf(
  path: string,
  metadata: Readonly<Record<string, MetadataValue>>,
  tensors: readonly TensorSource[],
): void {
  const file = openSync(path, 'w')
  try {
    const header = new ByteWriter()
    header.bytes(Buffer.from(MAGIC))
    header.u32(VERSION)
    header.u64(tensors.length)
    header.u64(Object.keys(metadata).length)
    for (const [key, value] of Object.entries(metadata)) {
      header.text(key)
      writeValue(header, value)
    }
    let offset = 0
    for (const tensor of tensors) {
      header.text(tensor.name)
      header.u32(tensor.shape.length)
      for (const length of tensor.shape) header.u64(length)
      header.u32(TENSOR_TYPES[tensor.type].id)
      header.u64(offset)
      offset = align(offset + tensorBytes(tensor))
    }
    const head = header.finish()
    writeAll(file, head)
    writePadding(file, head.length)
    for (const tensor of tensors) writeTensor(file, tensor)
  } finally {
    closeSync(file)
  }
}

function writeTensor(file: number, tensor: TensorSource): void {
  let written = 0
  for (const chunk of tensor.chunks()) {
    writeAll(file, chunk)
    written += chunk.length
  }
  if (written !== tensorBytes(tensor)) {
    throw new RangeError(`${tensor.name}: ${written} bytes, expected ${tensorBytes(tensor)}`)
  }
  writePadding(file, written)
}

function writeAll(file: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done)
}

function writePadding(file: number, length: number): void {
  writeAll(file, new Uint8Array(align(length) - length))
}

function align(length: number): number {
  return Math.ceil(length / ALIGNMENT) * ALIGNMENT
}

function writeValue(out: ByteWriter, value: MetadataValue): void {
  if ('u32' in value) {
    out.u32(VALUE_TYPES.u32)
    out.u32(value.u32)
  } else if ('f32' in value) {
    out.u32(VALUE_TYPES.f32)
    out.f32(value.f32)
  } else if ('bool' in value) {
    out.u32(VALUE_TYPES.bool)
    out.bytes(Uint8Array.of(value.bool ? 1 : 0))
  } else if ('text' in value) {
    out.u32(VALUE_TYPES.text)
    out.text(value.text)
  } else if ('texts' in value) {
    out.listOf(VALUE_TYPES.text, value.texts.length)
    for (const text of value.texts) out.text(text)
  } else {
    out.listOf(VALUE_TYPES.i32, value.i32s.length)
    for (const number of value.i32s) out.i32(number)
  }
}

/** Little-endian bytes, joined at the end. */
class ByteWriter {
  readonly #parts: Uint8Array[] = []

  bytes(part: Uint8Array): void {
    this.#parts.push(part)
  }

  u32(value: number): void {
    const part = Buffer.alloc(4)
    part.writeUInt32LE(value)
    this.bytes(part)
  }

  i32(value: number): void {
    const part = Buffer.alloc(4)
    part.writeInt32LE(value)
    this.bytes(part)
  }

  u64(value: number): void {
    const part = Buffer.alloc(8)
    part.writeBigUInt64LE(BigInt(value))
    this.bytes(part)
  }

  f32(value: number): void {
    const part = Buffer.alloc(4)
    part.writeFloatLE(value)
    this.bytes(part)
  }

  text(value: string): void {
    const part = Buffer.from(value)
    this.u64(part.length)
    this.bytes(part)
  }

  listOf(valueType: number, length: number): void {
    this.u32(VALUE_TYPES.list)
    this.u32(valueType)
    this.u64(length)
  }

  finish(): Uint8Array {
    return Buffer.concat(this.#parts)
  }
}
