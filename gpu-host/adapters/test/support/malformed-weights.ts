/** A good config over weights that must be refused. */
import { readFileSync } from 'node:fs'
import {
  type AdapterParts,
  encodeWeights,
  type HeaderEntry,
  layOut,
  readParts,
  type TensorPart,
  writeFiles,
  writeParts,
} from './adapter-files.ts'
import type { MalformedAdapter } from './malformed-adapters.ts'
import { adapterPaths } from './vectors.ts'

const expectedOf = (what: string): RegExp => new RegExp(`^adapter_model\\.safetensors: .*${what}`)

/** The file's bytes. */
function bytes(
  name: string,
  expected: string,
  change: (weights: Buffer) => Uint8Array,
): MalformedAdapter {
  return {
    name,
    expected: expectedOf(expected),
    write(directory, goodDirectory) {
      const { configPath, weightsPath } = adapterPaths(goodDirectory)
      writeFiles(directory, readFileSync(configPath), change(readFileSync(weightsPath)))
    },
  }
}

/** The header's text; data as it was. */
function header(
  name: string,
  expected: string,
  change: (entries: Record<string, HeaderEntry>, first: string) => unknown,
): MalformedAdapter {
  return {
    name,
    expected: expectedOf(expected),
    write(directory, goodDirectory) {
      const { tensors } = readParts(goodDirectory)
      const { header: entries, data } = layOut(tensors)
      const changed = change(entries, firstOf(tensors).name)
      const json = typeof changed === 'string' ? changed : JSON.stringify(changed)
      const config = readFileSync(adapterPaths(goodDirectory).configPath)
      writeFiles(directory, config, encodeWeights(json, data))
    },
  }
}

/** The tensors; the file around them is sound. */
function tensors(
  name: string,
  expected: string,
  change: (parts: AdapterParts, first: TensorPart) => void,
): MalformedAdapter {
  return {
    name,
    expected: expectedOf(expected),
    write(directory, goodDirectory) {
      const parts = readParts(goodDirectory)
      change(parts, firstOf(parts.tensors))
      writeParts(directory, parts)
    },
  }
}

function firstOf(parts: readonly TensorPart[]): TensorPart {
  const [first] = parts
  if (first === undefined) throw new Error('the good adapter has no tensor')
  return first
}

function patch(
  entries: Record<string, HeaderEntry>,
  name: string,
  change: Partial<HeaderEntry>,
): Record<string, HeaderEntry> {
  const entry = entries[name]
  if (entry === undefined) throw new Error('no such tensor')
  return { ...entries, [name]: { ...entry, ...change } }
}

function withLength(weights: Buffer, length: bigint): Buffer {
  const changed = Buffer.from(weights)
  changed.writeBigUInt64LE(length)
  return changed
}

/** All values of the tensor become `value`, as F32. */
function fill(part: TensorPart, value: number): void {
  const count = part.shape.reduce((product, length) => product * length, 1)
  part.dtype = 'F32'
  part.bytes = new Uint8Array(new Float32Array(count).fill(value).buffer)
}

const extra = (name: string): TensorPart => ({
  name,
  dtype: 'F16',
  shape: [2, 2],
  bytes: new Uint8Array(8),
})

const NAME = 'lora_A'

export const MALFORMED_WEIGHTS: readonly MalformedAdapter[] = [
  bytes('weights empty', 'header is cut off', () => new Uint8Array()),
  bytes('weights cut in half', 'is cut off', (weights) =>
    weights.subarray(0, Math.floor(weights.length * 0.7)),
  ),
  bytes('header cut off', 'header is cut off', (weights) => weights.subarray(0, 100)),
  bytes('a pickle', 'header is a pickle', () =>
    Buffer.from('\x80\x02ccollections\nOrderedDict\nq\x00.', 'latin1'),
  ),
  bytes('a zipped pickle', 'header is a pickle', () =>
    Buffer.from('PK\x03\x04\x00\x00\x08\x08\x00archive/data.pkl', 'latin1'),
  ),
  bytes('header of 2^60 bytes', 'header says', (weights) => withLength(weights, 2n ** 60n)),
  bytes('header of 2^64 − 1 bytes', 'header says', (weights) =>
    withLength(weights, 2n ** 64n - 1n),
  ),
  bytes('header of 100 MB', 'header says', (weights) => withLength(weights, 100_000_000n)),
  bytes('bytes after the last tensor', 'header has 3 bytes after', (weights) =>
    Buffer.concat([weights, Buffer.from('end')]),
  ),
  header('header not JSON', 'header is not JSON', () => '{"a": '),
  header('header an array', 'header is not a JSON object', () => []),
  header('header without tensors', 'header names no tensor', () => ({})),
  header('header after a blank', 'header is not a JSON object', (entries) => {
    return ` ${JSON.stringify(entries)}`
  }),
  header('a tensor twice', NAME, (entries, first) => {
    const twice = `{${JSON.stringify(first)}:${JSON.stringify(entries[first])},`
    return JSON.stringify(entries).replace('{', twice)
  }),
  header('a key twice within a tensor', 'dtype stands twice', (entries) =>
    JSON.stringify(entries).replace('"dtype"', '"dtype":"I8","dtype"'),
  ),
  header('metadata not of text', '__metadata__', (entries) => ({
    __metadata__: { format: 1 },
    ...entries,
  })),
  header('dtype I8', `${NAME}.* has dtype "I8"`, (entries, first) =>
    patch(entries, first, { dtype: 'I8' }),
  ),
  header('dtype of Object.prototype', `${NAME}.* has dtype`, (entries, first) =>
    patch(entries, first, { dtype: 'constructor' }),
  ),
  header('offsets negative', `${NAME}.* has data_offsets`, (entries, first) =>
    patch(entries, first, { data_offsets: [-8, 8] }),
  ),
  header('offsets beyond safe integers', `${NAME}.* has data_offsets`, (entries, first) =>
    patch(entries, first, { data_offsets: [2 ** 60, 2 ** 60 + 256] }),
  ),
  header('offsets fractional', `${NAME}.* has data_offsets`, (entries, first) =>
    patch(entries, first, { data_offsets: [0.5, 128.5] }),
  ),
  header('offsets reversed', `${NAME}.* has data_offsets`, (entries, first) =>
    patch(entries, first, { data_offsets: [128, 0] }),
  ),
  header('tensors overlap', 'overlaps another', (entries) => {
    const [first, second] = Object.entries(entries)
    if (first === undefined || second === undefined) throw new Error('too few tensors')
    const [[, { shape, dtype, data_offsets }], [name]] = [first, second]
    return patch(entries, name, { shape, dtype, data_offsets })
  }),
  header('a hole between tensors', 'after a hole', (entries, first) => {
    const { [first]: _, ...rest } = entries
    return rest
  }),
  header('fewer bytes than the shape', `${NAME}.* needs`, (entries, first) =>
    patch(entries, first, { shape: [1_000_000, 1_000_000] }),
  ),
  header('shape beyond safe integers', `${NAME}.* has shape`, (entries, first) =>
    patch(entries, first, { shape: [2 ** 40, 2 ** 40] }),
  ),
  header('shape with a zero', `${NAME}.* has shape`, (entries, first) =>
    patch(entries, first, { shape: [0, 8] }),
  ),
  header('a tensor with a stray key', `${NAME}.* must have exactly`, (entries, first) => ({
    ...entries,
    [first]: { ...entries[first], code: 'x' },
  })),
  tensors('a NaN', `${NAME}.* is NaN`, (_, first) => fill(first, Number.NaN)),
  tensors('an Inf', `${NAME}.* is Inf`, (_, first) => fill(first, Number.POSITIVE_INFINITY)),
  tensors('beyond F16', `${NAME}.* is beyond`, (_, first) => fill(first, 70_000)),
  tensors('the shape of another base', `${NAME}.* has shape .* expected`, (_, first) => {
    first.shape = [...first.shape].reverse()
  }),
  tensors('three dimensions', `${NAME}.* has shape .* expected`, (_, first) => {
    first.shape = [1, ...first.shape]
  }),
  tensors('a rank other than the config says', `${NAME}.* has shape .* expected`, (_, first) => {
    const [rank = 0, nIn = 0] = first.shape
    first.shape = [rank / 2, nIn]
    first.bytes = first.bytes.subarray(0, first.bytes.length / 2)
  }),
  tensors('lora_B missing', 'lora_B.* is missing', (parts) => {
    const at = parts.tensors.findIndex(({ name }) => name.includes('lora_B'))
    parts.tensors.splice(at, 1)
  }),
  tensors('a module missing', 'is missing', (parts, first) => {
    const module = first.name.slice(0, first.name.indexOf('.lora_'))
    parts.tensors = parts.tensors.filter(({ name }) => !name.startsWith(`${module}.`))
  }),
  tensors('a stray tensor', 'model.norm.weight is no tensor', (parts) => {
    parts.tensors.push(extra('base_model.model.model.norm.weight'))
  }),
  tensors('embeddings', 'embed_tokens.*target_modules', (parts) => {
    parts.tensors.push(extra('base_model.model.model.embed_tokens.lora_embedding_A'))
  }),
  tensors("DoRA's magnitudes", 'lora_magnitude_vector.*use_dora', (parts) => {
    const path = 'base_model.model.model.layers.0.self_attn.q_proj'
    parts.tensors.push(extra(`${path}.lora_magnitude_vector`))
  }),
  tensors('a layer that the base lacks', 'layers.9999.* is of layer 9999', (_, first) => {
    first.name = first.name.replace(/layers\.\d+/, 'layers.9999')
  }),
  tensors('a layer number written otherwise', 'layers.00.* is no tensor', (_, first) => {
    first.name = first.name.replace(/layers\.\d+/, 'layers.00')
  }),
  tensors('a path as a tensor name', 'etc/passwd is no tensor', (parts) => {
    parts.tensors.push(extra('../../../../etc/passwd'))
  }),
  tensors('control characters in a tensor name', '\\\\u000a\\\\u001b.* is no tensor', (parts) => {
    parts.tensors.push(extra('\n\u001b[2Jx'))
  }),
  tensors('a module that the config does not target', 'config does not target', (parts, first) => {
    parts.config.exclude_modules = [first.name.replace(/^.*\.(\w+)\.lora_.*$/, '$1')]
  }),
]
