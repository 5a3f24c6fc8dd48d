/** B6: safetensors files that are broken, lie about themselves, or hold what no weight may be. */
import {
  encodeWeights,
  type HeaderEntry,
  layOut,
  type TensorPart,
} from '../../gpu-host/adapters/test/support/adapter-files.ts'
import { partsOf, upload } from './adapter-world.ts'
import {
  type BadCase,
  CaseList,
  EITHER,
  type Expected,
  LEGAL,
  nested,
  refusedAt,
  type World,
} from './bad-case.ts'

const HEADER = refusedAt('header')

export function weightsFiles(world: World): BadCase[] {
  const list = new CaseList('B6')
  const { tensors } = partsOf(world)
  const sound = world.weights
  const dataStart = 8 + Number(Buffer.from(sound).readBigUInt64LE())
  const send = (title: string, weights: () => Uint8Array, expected: Expected): void =>
    list.add(
      title,
      upload(world, world.config, () => Uint8Array.from(weights())),
      expected,
    )
  const text = (title: string, header: string, expected: Expected): void =>
    send(title, () => encodeWeights(header, sound.subarray(dataStart)), expected)
  const header = (
    title: string,
    change: (entries: Record<string, HeaderEntry>) => unknown,
    expected: Expected,
  ): void =>
    send(
      title,
      () => {
        const { header: entries, data } = layOut(tensors)
        return encodeWeights(JSON.stringify(change(entries) ?? entries), data)
      },
      expected,
    )
  const [first] = tensors
  if (first === undefined) throw new Error('a sound adapter has tensors')
  const { name } = first
  const entry = (
    title: string,
    change: (entry: HeaderEntry) => Partial<HeaderEntry>,
    expected = refusedAt(name),
  ): void =>
    header(
      title,
      (entries) => {
        const found = entries[name]
        if (found !== undefined) entries[name] = { ...found, ...change(found) }
      },
      expected,
    )

  for (let length = 0; length < 24; length++) {
    send(
      `cut off after ${length} bytes`,
      () => sound.subarray(0, length),
      refusedAt(/^(header|weights)$/),
    )
  }
  for (let part = 1; part < 40; part++) {
    const length = Math.floor((sound.length * part) / 40)
    send(`cut off after ${part} fortieths`, () => sound.subarray(0, length), HEADER)
  }
  send('one byte short', () => sound.subarray(0, -1), HEADER)
  for (const more of [1, 2, 3, 4, 64, 4096, 1_000_000]) {
    send(`${more} bytes too many`, () => Buffer.concat([sound, Buffer.alloc(more)]), HEADER)
  }
  for (const length of [
    ...[
      0n,
      1n,
      2n,
      7n,
      BigInt(dataStart - 9),
      BigInt(dataStart - 7),
      BigInt(sound.length - 8),
      BigInt(sound.length),
    ],
    ...[
      1_048_576n,
      1_048_577n,
      100_000_000n,
      2n ** 31n,
      2n ** 32n,
      2n ** 53n,
      2n ** 63n,
      2n ** 64n - 1n,
    ],
  ]) {
    send(`header of ${length} bytes, it says`, () => withLength(sound, length), refusedAt(/./))
  }
  for (const [what, header] of Object.entries({
    ...{
      nothing: '',
      blanks: '   ',
      null: 'null',
      text: '"x"',
      number: '1',
      list: '[]',
      object: '{}',
    },
    ...{
      'blank before': ' {}',
      'a mark before': '\ufeff{}',
      'no JSON': '{"a"',
      'two objects': '{}{}',
    },
    ...{
      metadata: '{"__metadata__":{"format":"pt"}}',
      'zeros behind': '{}\0\0',
      'no UTF-8': '{"\ud800":1}',
    },
    ...{
      'metadata of a number': '{"__metadata__":1}',
      'metadata of lists': '{"__metadata__":{"a":[]}}',
    },
  })) {
    text(`header is ${what}`, header, refusedAt(/./))
  }
  for (const depth of [33, 1000, 100_000, 500_000]) {
    text(`header nested ${depth} deep`, `{"a":${nested(depth)}}`, refusedAt(/./))
    text(`metadata nested ${depth} deep`, `{"__metadata__":${nested(depth, 'a')}}`, refusedAt(/./))
  }
  send(
    'a header of a megabyte and one byte',
    () => encodeWeights(`{}${' '.repeat(1_048_575)}`, sound),
    HEADER,
  )
  for (const count of [1000, 9000]) {
    const many = Object.fromEntries(
      Array.from({ length: count }, (_, i) => [
        `t${i}`,
        { dtype: 'F16', shape: [1], data_offsets: [2 * i, 2 * i + 2] },
      ]),
    )
    send(
      `${count} tensors of other names`,
      () => encodeWeights(JSON.stringify(many), Buffer.alloc(2 * count)),
      refusedAt('t0'),
    )
  }
  const { header: entries, data } = layOut(tensors)
  const whole = JSON.stringify(entries)
  const twice = `${whole.slice(0, -1)},${JSON.stringify(name)}:${JSON.stringify(entries[name])}}`
  send('a tensor twice', () => encodeWeights(twice, data), refusedAt(name))
  send(
    'a tensor twice, once escaped',
    () =>
      encodeWeights(
        twice.replace(/"b(ase_model[^"]*)"(?=[^"]*"dtype"[^}]*}}$)/, '"\\u0062$1"'),
        data,
      ),
    refusedAt(name),
  )
  send(
    'a field twice',
    () => encodeWeights(whole.replace('"dtype":"F16"', '"dtype":"F32","dtype":"F16"'), data),
    refusedAt('dtype'),
  )

  for (const dtype of [
    ...['F64', 'I8', 'U8', 'BOOL', 'F8_E4M3', 'f16', '', 'F16\0', '__proto__', 'toString'],
    16,
    null,
    [],
    {},
  ]) {
    entry(`dtype ${JSON.stringify(dtype)}`, () => ({ dtype }))
  }
  for (const shape of [
    ...[
      [],
      [0],
      [0, 64],
      [-1, 64],
      [-4, -64],
      [4],
      [4, 64, 1],
      [64, 4],
      [5, 64],
      [4.5, 64],
      [4, 2 ** 31],
      [4, 2 ** 32],
    ],
    ...[
      [2 ** 32, 2 ** 32],
      [2 ** 53, 2],
      [1e308, 10],
      [2 ** 62, 4],
      [9, 9, 9, 9, 9, 9, 9, 9, 9],
      ['4', 64],
      [null],
      'x',
      {},
      null,
      256,
    ],
    ...[Array(10_000).fill(1), [4, [64]], [true, 64], [4, 64.0000001], [-0, 64]],
  ]) {
    entry(`shape ${JSON.stringify(shape).slice(0, 40)}`, () => ({ shape }))
  }
  for (const offsets of [
    ...[
      [0, 0],
      [1, 0],
      [-2, 510],
      [0, -1],
      [0.5, 512.5],
      [0, 2 ** 31],
      [0, 2 ** 53],
      [2 ** 53, 2 ** 53 + 2],
      [1e308, 1e308],
    ],
    ...[
      [0],
      [0, 512, 1024],
      [],
      'x',
      {},
      null,
      ['0', '512'],
      [null, null],
      [false, true],
      [512, 1024],
      [2, 514],
      [1, 513],
    ],
  ]) {
    entry(`offsets ${JSON.stringify(offsets)}`, () => ({ data_offsets: offsets }), refusedAt(/./))
  }
  for (const key of ['strides', 'offset', 'constructor']) {
    entry(`a field ${key} more`, () => ({ [key]: 1 }) as Partial<HeaderEntry>)
  }
  text('a field __proto__', `{"x":{"__proto__":{}}}`, refusedAt('__proto__'))
  for (const missing of ['dtype', 'shape', 'data_offsets'] as const) {
    entry(`without ${missing}`, () => ({ [missing]: undefined }))
  }
  for (const value of [1, 'x', null, [], true])
    header(
      `an entry that is ${JSON.stringify(value)}`,
      (all) => ({ ...all, [name]: value }),
      refusedAt(name),
    )

  for (let i = 0; i < Math.min(tensors.length, 28); i++) {
    const short = tensors[i]?.name ?? ''
    const layout = (change: (parts: TensorPart[]) => TensorPart[]) => () =>
      encode(change([...tensors]))
    send(
      `without tensor ${i}`,
      layout((parts) => parts.filter((_, at) => at !== i)),
      refusedAt(short),
    )
    send(
      `tensor ${i} under another name`,
      layout((parts) =>
        parts.map((part, at) => (at === i ? { ...part, name: `${short}x` } : part)),
      ),
      refusedAt(/./),
    )
    send(
      `tensor ${i} turned round`,
      layout((parts) =>
        parts.map((part, at) => (at === i ? { ...part, shape: part.shape.toReversed() } : part)),
      ),
      refusedAt(short),
    )
    send(
      `tensor ${i} of rank 1`,
      layout((parts) => parts.map((part, at) => (at === i ? toRankOne(part) : part))),
      refusedAt(/./),
    )
  }
  for (const odd of [
    ...[
      '',
      ' ',
      'x',
      '__proto__',
      'constructor',
      '../../x',
      '/etc/passwd',
      'lora_A',
      `${name}.`,
      name.toUpperCase(),
    ],
    ...[
      name.replace('layers.0', 'layers.00'),
      name.replace('layers.0', 'layers.-1'),
      name.replace('layers.0', 'layers.9999999'),
    ],
    ...[
      name.replace('layers.0', 'layers.1e0'),
      name.replace('layers.0', 'layers.2'),
      name.replace('q_proj', 'q_prоj'),
    ],
    ...[
      `${name}\0`,
      `\u202e${name}`,
      'n'.repeat(100_000),
      name.replace('lora_A', 'lora_magnitude_vector'),
      '\ud800',
    ],
    ...[
      'base_model.model.lm_head.lora_A.weight',
      'base_model.model.model.embed_tokens.lora_embedding_A',
      `${name.slice(0, -6)}bias`,
    ],
  ]) {
    const parts = (): TensorPart[] =>
      tensors.map((part, at) => (at === 0 ? { ...part, name: odd } : part))
    send(
      `a tensor called ${JSON.stringify(odd).slice(0, 50)}`,
      () => encode(parts()),
      refusedAt(/^./s),
    )
  }

  // Every kind of number that is no weight, in each of three types, first and last in a tensor.
  for (const [what, bits] of Object.entries(F32_BITS)) {
    for (const dtype of ['F32', 'F16', 'BF16'] as const) {
      for (const at of ['first', 'last'] as const) {
        const value = bits[dtype]
        if (value === undefined) continue
        const isSound = what.startsWith('sound')
        const part = () => withValue(first, dtype, at, value)
        const expected = isSound ? LEGAL : refusedAt(name)
        send(
          `${what} as ${dtype}, the ${at}`,
          () => encode([part(), ...tensors.slice(1)]),
          expected,
        )
      }
    }
  }
  send('in another order', () => encode([...tensors].reverse()), LEGAL)
  send(
    'with metadata',
    () =>
      encodeWeights(
        `{"__metadata__":{"format":"pt","x":"${'y'.repeat(1000)}"},${whole.slice(1)}`,
        data,
      ),
    LEGAL,
  )
  send(
    'with blanks behind the header',
    () => encodeWeights(`${whole}${' '.repeat(5)}`, data),
    LEGAL,
  )
  const random = seeded(20_261_127)
  for (let i = 0; i < 40; i++) {
    const edits = Array.from(
      { length: 3 },
      () => [Math.floor(random() * dataStart), Math.floor(random() * 256)] as const,
    )
    send(
      `header with bytes changed, ${i}`,
      () => {
        const bytes = Buffer.from(sound)
        for (const [at, byte] of edits) bytes[at] = byte
        return bytes
      },
      EITHER,
    )
  }
  return list.cases
}

const encode = (parts: readonly TensorPart[]): Buffer => {
  const { header, data } = layOut(parts)
  return encodeWeights(JSON.stringify(header), data)
}

function withLength(sound: Uint8Array, length: bigint): Uint8Array {
  const bytes = Buffer.from(sound)
  bytes.writeBigUInt64LE(length)
  return bytes
}

function toRankOne(part: TensorPart): TensorPart {
  const count = Math.max(...part.shape)
  return {
    ...part,
    shape: part.shape.map((n) => (n === count ? n : 1)),
    bytes: part.bytes.subarray(0, 2 * count),
  }
}

type Bits = Partial<Record<'F32' | 'F16' | 'BF16', number>>
const F32_BITS: Readonly<Record<string, Bits>> = {
  'a quiet NaN': { F32: 0x7fc0_0000, F16: 0x7e00, BF16: 0x7fc0 },
  'a signalling NaN': { F32: 0x7f80_0001, F16: 0x7c01, BF16: 0x7f81 },
  'a negative NaN': { F32: 0xffff_ffff, F16: 0xffff, BF16: 0xffff },
  infinity: { F32: 0x7f80_0000, F16: 0x7c00, BF16: 0x7f80 },
  'minus infinity': { F32: 0xff80_0000, F16: 0xfc00, BF16: 0xff80 },
  'the largest float': { F32: 0x7f7f_ffff, BF16: 0x7f7f },
  'beyond F16': { F32: 0x4780_0000, BF16: 0x4780 },
  'sound: the largest F16': { F32: 0x477f_e000, F16: 0x7bff },
  'sound: a denormal': { F32: 0x0000_0001, F16: 0x0001, BF16: 0x0001 },
  'sound: minus nothing': { F32: 0x8000_0000, F16: 0x8000, BF16: 0x8000 },
}

/** The tensor as another type, one of its values these bits, the others 0. */
function withValue(
  part: TensorPart,
  dtype: 'F32' | 'F16' | 'BF16',
  at: 'first' | 'last',
  bits: number,
): TensorPart {
  const width = dtype === 'F32' ? 4 : 2
  const bytes = Buffer.alloc((part.bytes.length / 2) * width)
  bytes.writeUIntLE(bits, at === 'first' ? 0 : bytes.length - width, width)
  return { ...part, dtype, bytes }
}

/** Numbers of 0 ≤ x < 1 that are the same in every run (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
