/**
 * Reads a safetensors file that nobody vouches for. The header is checked as a whole before any
 * weight is read: its length is capped, offsets are whole and safe, tensors cover the data without
 * a hole, an overlap or a byte to spare, and each has exactly the bytes of its shape and type.
 * Weights are then read one tensor at a time, so memory is bounded by the largest tensor that was
 * asked for.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { z } from 'zod'
import { adapterInvalid, toPrintableJson } from './adapter-invalid.ts'
import { HALF_MAX, TENSOR_TYPE_BYTES, type TensorType, toHalves } from './half-float.ts'
import { readFully } from './read-fully.ts'
import { parseStrictJson } from './strict-json.ts'

const LENGTH_BYTES = 8
export const HEADER_BYTES_MAX = 1024 * 1024
/**
 * What `torch.save` writes begins with a zip entry or a pickle's protocol byte. Nothing can be a
 * pickle and safetensors at once: a header of a megabyte or less has zeros in its length, and 0 is
 * no pickle's opcode.
 */
const ZIP_MAGIC = 0x04034b50
const PICKLE_PROTOCOL = 0x80
/** A zip's last record: its magic, 16 bytes, the length of a comment, and the comment. */
const ZIP_END_MAGIC = Buffer.from('PK\x05\x06', 'latin1')
const ZIP_END_BYTES = 22
const ZIP_COMMENT_BYTES_MAX = 0xffff
const BRACE = 0x7b

export interface Tensor {
  readonly name: string
  readonly type: TensorType
  readonly shape: readonly number[]
  /** Byte offset in the file. */
  readonly position: number
  readonly bytes: number
}

const tensorHeader = z.strictObject({
  dtype: z.string(),
  shape: z.array(z.number()).max(8),
  data_offsets: z.tuple([z.number(), z.number()]),
})

export class SafetensorsFile {
  readonly tensors: ReadonlyMap<string, Tensor>
  readonly #handle: FileHandle

  private constructor(handle: FileHandle, tensors: ReadonlyMap<string, Tensor>) {
    this.#handle = handle
    this.tensors = tensors
  }

  /** Rejects with `adapter_invalid`. The caller closes what it gets. */
  static async open(path: string): Promise<SafetensorsFile> {
    const handle = await open(path, 'r')
    try {
      return new SafetensorsFile(handle, await readHeader(handle))
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  /** The tensor as F16, rounded once. Rejects with `adapter_invalid` on what F16 cannot hold. */
  async readHalves(tensor: Tensor): Promise<Uint16Array<ArrayBuffer>> {
    const bytes = await readFully(this.#handle, tensor.position, tensor.bytes)
    if (bytes === null)
      throw adapterInvalid('weights', tensor.name, 'was cut off while it was read')
    const converted = toHalves(bytes, tensor.type)
    if (converted.isValid) return converted.halves
    const { problem, index } = converted
    const found = { nan: 'NaN', infinite: 'Inf', overflow: `beyond ±${HALF_MAX}, F16's range` }
    const fix = 'train again with a lower learning rate or gradient clipping'
    throw adapterInvalid('weights', tensor.name, `value ${index} is ${found[problem]}; ${fix}`)
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}

async function readHeader(handle: FileHandle): Promise<Map<string, Tensor>> {
  const { size } = await handle.stat()
  const prefix = await readFully(handle, 0, LENGTH_BYTES + 1)
  if (prefix === null) throw broken(`is cut off: the file has ${size} bytes; upload it again`)
  checkIsNoPickle(prefix)
  const headerBytes = prefix.readBigUInt64LE()
  if (headerBytes > BigInt(HEADER_BYTES_MAX)) {
    throw broken(`says its header has ${headerBytes} bytes; at most ${HEADER_BYTES_MAX} are taken`)
  }
  const length = Number(headerBytes)
  const header = await readFully(handle, LENGTH_BYTES, length)
  if (header === null) {
    throw broken(`is cut off: a header of ${length} bytes in a file of ${size}; upload it again`)
  }
  const dataStart = LENGTH_BYTES + length
  const tensors = parseTensors(header, dataStart)
  checkCover(tensors, dataStart, size)
  await checkIsNoZip(handle, size)
  return new Map(tensors.map((tensor) => [tensor.name, tensor]))
}

function checkIsNoPickle(prefix: Buffer): void {
  // A true header's length may look like a pickle's first bytes, but then its text follows.
  if (prefix[LENGTH_BYTES] === BRACE) return
  const isPickle = prefix[0] === PICKLE_PROTOCOL && (prefix[1] ?? 0) <= 5
  if (!isPickle && prefix.readUInt32LE() !== ZIP_MAGIC) return
  throw broken('is a pickle, which is never opened; save with save_pretrained(…) as safetensors')
}

/**
 * A zip is read from its end, so one may lie in the weights of a file that is safetensors in every
 * other way, and `torch.load` would open it as a pickle. Chance writes no such end: 6 bytes of it
 * depend on nothing else.
 */
async function checkIsNoZip(handle: FileHandle, size: number): Promise<void> {
  const tailBytes = Math.min(size, ZIP_END_BYTES + ZIP_COMMENT_BYTES_MAX)
  const tail = await readFully(handle, size - tailBytes, tailBytes)
  if (tail === null) throw broken('was cut off while it was read')
  for (let at = tail.indexOf(ZIP_END_MAGIC); at >= 0; at = tail.indexOf(ZIP_END_MAGIC, at + 1)) {
    const end = at + ZIP_END_BYTES
    if (end > tail.length || end + tail.readUInt16LE(end - 2) !== tail.length) continue
    throw broken(
      'goes with a zip archive in the weights, as torch.save writes one; use save_pretrained(…)',
    )
  }
}

function parseTensors(header: Uint8Array, dataStart: number): Tensor[] {
  const json = parseStrictJson(header)
  if (!json.isValid) throw adapterInvalid('weights', json.key ?? 'header', json.problem)
  const { value } = json
  // The first byte is fixed by the format, so that no other text can pass for a header.
  if (header[0] !== BRACE || typeof value !== 'object' || value === null) {
    throw broken('is not a JSON object that begins with {')
  }
  const tensors: Tensor[] = []
  for (const [name, entry] of Object.entries(value)) {
    if (name !== '__metadata__') tensors.push(parseTensor(name, entry, dataStart))
    else if (!z.record(z.string(), z.string()).safeParse(entry).success) {
      throw adapterInvalid('weights', name, 'must map text to text')
    }
  }
  if (tensors.length === 0) throw broken('names no tensor: the adapter is empty')
  return tensors
}

function parseTensor(name: string, entry: unknown, dataStart: number): Tensor {
  const refuse = (problem: string) => adapterInvalid('weights', name, problem)
  const parsed = tensorHeader.safeParse(entry)
  if (!parsed.success) throw refuse('must have exactly dtype, shape and data_offsets')
  const { dtype, shape, data_offsets } = parsed.data
  if (!isTensorType(dtype)) {
    throw refuse(`has dtype ${toPrintableJson(dtype)}; save it as F32, F16 or BF16`)
  }
  let bytes = TENSOR_TYPE_BYTES[dtype]
  for (const length of shape) {
    bytes *= length
    if (Number.isSafeInteger(length) && length > 0 && Number.isSafeInteger(bytes)) continue
    throw refuse(`has shape ${toPrintableJson(shape)}, which is not one of whole, positive lengths`)
  }
  const [begin, end] = data_offsets
  const areOffsets = [begin, end, dataStart + end].every((offset) => Number.isSafeInteger(offset))
  if (!areOffsets || begin < 0 || end < begin) {
    throw refuse(`has data_offsets ${toPrintableJson(data_offsets)}, which are no byte range`)
  }
  if (end - begin !== bytes) {
    throw refuse(`has ${end - begin} bytes; ${dtype} ${toPrintableJson(shape)} needs ${bytes}`)
  }
  return { name, type: dtype, shape, position: dataStart + begin, bytes }
}

/** Tensors must tile the data exactly: bytes that no tensor owns could hold anything. */
function checkCover(tensors: readonly Tensor[], dataStart: number, fileSize: number): void {
  let expected = dataStart
  for (const tensor of [...tensors].sort((a, b) => a.position - b.position)) {
    const { name, position, bytes } = tensor
    if (position < expected) throw adapterInvalid('weights', name, 'overlaps another tensor')
    if (position > expected) {
      throw adapterInvalid('weights', name, `comes after a hole of ${position - expected} bytes`)
    }
    expected += bytes
  }
  if (expected > fileSize) {
    throw broken(
      `is cut off: tensors end at byte ${expected}, the file at ${fileSize}; upload again`,
    )
  }
  if (expected < fileSize) throw broken(`has ${fileSize - expected} bytes after its last tensor`)
}

function broken(problem: string): Error {
  return adapterInvalid('weights', 'header', problem)
}

function isTensorType(dtype: string): dtype is TensorType {
  return Object.hasOwn(TENSOR_TYPE_BYTES, dtype)
}
