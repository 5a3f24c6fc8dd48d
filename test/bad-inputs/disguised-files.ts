/** B8: archives, pickles, models and code under the names of an adapter's two files. */
import { deflateRawSync, gzipSync } from 'node:zlib'
import { encodeWeights, layOut } from '../../gpu-host/adapters/test/support/adapter-files.ts'
import { partsOf, upload } from './adapter-world.ts'
import { type BadCase, CaseList, EITHER, LEGAL, refusedAt, type World } from './bad-case.ts'

const text = (value: string): Buffer => Buffer.from(value, 'latin1')
const ANY = refusedAt(/./)
const CONFIG = 'adapter_config.json'
const WEIGHTS = 'adapter_model.safetensors'

/** `os.system("id")`, as each protocol writes it. */
const PICKLES: Readonly<Record<string, Buffer>> = {
  'protocol 0': text("cos\nsystem\n(S'id'\ntR."),
  'protocol 1': text('(cos\nsystem\nU\x02idtR.'),
  'protocol 2': text('\x80\x02cos\nsystem\nU\x02id\x85R.'),
  'protocol 3': text('\x80\x03cos\nsystem\nX\x02\0\0\0id\x85R.'),
  'protocol 4': text('\x80\x04\x95\x1a\0\0\0\0\0\0\0\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.'),
  'protocol 5': text('\x80\x05\x95\x1a\0\0\0\0\0\0\0\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.'),
}

export function disguisedFiles(world: World): BadCase[] {
  const list = new CaseList('B8')
  const sound = Buffer.from(world.weights)
  const { tensors } = partsOf(world)
  const asWeights = (title: string, bytes: () => Uint8Array, expected = ANY): void =>
    list.add(
      `weights: ${title}`,
      upload(world, world.config, () => Uint8Array.from(bytes())),
      expected,
    )
  const asConfig = (title: string, bytes: () => Uint8Array): void =>
    list.add(
      `config: ${title}`,
      upload(world, () => Uint8Array.from(bytes())),
      ANY,
    )

  const disguises: Record<string, () => Buffer> = {
    ...Object.fromEntries(
      Object.entries(PICKLES).map(([name, bytes]) => [`pickle, ${name}`, () => bytes]),
    ),
    'torch.save': () => zip([['archive/data.pkl', PICKLES['protocol 2'] ?? text('')]]),
    'an empty zip': () => zip([]),
    'a zip that leads outside': () =>
      zip([
        ['../../../etc/cron.d/x', text('x')],
        ['/etc/passwd', text('x')],
      ]),
    'a zip bomb': () => zip([['bomb', Buffer.alloc(50_000_000)]], true),
    'a tar': () => tar('adapter_config.json', text('{}')),
    'a tar with a link': () => tar('x', text(''), '/etc/passwd'),
    gzip: () => gzipSync(Buffer.alloc(1_000_000)),
    xz: () => text('\xfd7zXZ\0\0\x04\xe6\xd6\xb4F'),
    zstd: () => text('\x28\xb5\x2f\xfd\x04\0\0\0\0'),
    bzip2: () => text('BZh91AY&SY'),
    '7z': () => text("7z\xbc\xaf'\x1c\0\x04"),
    rar: () => text('Rar!\x1a\x07\x01\0'),
    GGUF: () => Buffer.concat([text('GGUF\x03\0\0\0'), Buffer.alloc(16, 0xff)]),
    'GGUF of no tensor': () => Buffer.concat([text('GGUF\x03\0\0\0'), Buffer.alloc(16)]),
    GGML: () => text('lmgg\x01\0\0\0'),
    ONNX: () => text('\x08\x07\x12\x07pytorch'),
    HDF5: () => text('\x89HDF\r\n\x1a\n'),
    NumPy: () =>
      text("\x93NUMPY\x01\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n"),
    ELF: () => text('\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0'),
    script: () => text('#!/bin/sh\nid\n'),
    Python: () => text('import os; os.system("id")\n'),
    PDF: () => text('%PDF-1.7\n'),
    PNG: () => text('\x89PNG\r\n\x1a\n\0\0\0\rIHDR'),
    SQLite: () => text('SQLite format 3\0'),
    HTML: () => text('<!doctype html><script>alert(1)</script>'),
    WASM: () => text('\0asm\x01\0\0\0'),
    nothing: () => Buffer.alloc(0),
    zeros: () => Buffer.alloc(4096),
    'a sparse file': () => Buffer.alloc(2_000_000),
    'LFS pointer': () => text('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n'),
  }
  for (const [title, bytes] of Object.entries(disguises)) {
    asWeights(title, bytes)
    asConfig(title, bytes)
  }
  asWeights('a large sparse file', () => Buffer.alloc(30_000_000))
  asWeights('the config', () => Buffer.from(world.config))
  asConfig('the weights', () => sound)

  // Polyglots: safetensors in every other way.
  const archive = zip([['archive/data.pkl', PICKLES['protocol 2'] ?? text('')]])
  for (const comment of [0, 1, 100, 60_000]) {
    const tail = Buffer.concat([withComment(archive, comment), Buffer.alloc(comment)])
    asWeights(`a zip as the last weights, comment of ${comment}`, () => endingWith(tail))
    asWeights(`a zip behind, comment of ${comment}`, () => Buffer.concat([sound, tail]))
  }
  asWeights('a zip in front', () => Buffer.concat([archive, sound]))
  for (const [name, bytes] of Object.entries(PICKLES)) {
    asWeights(`a pickle in front, ${name}`, () => Buffer.concat([bytes, sound]))
    asWeights(`a pickle behind, ${name}`, () => Buffer.concat([sound, bytes]))
    const metadata = `{"__metadata__":{"x":${JSON.stringify(bytes.toString('latin1'))}},`
    const { header, data } = layOut(tensors)
    asWeights(
      `a pickle in the metadata, ${name}`,
      () => encodeWeights(metadata + JSON.stringify(header).slice(1), data),
      LEGAL,
    )
  }

  for (const [config, weights] of [
    ...[
      ['adapter_config.json', 'adapter_model.bin'],
      ['adapter_config.json', 'adapter_model.pt'],
      ['../../x', '../../y'],
    ],
    ...[
      ['/etc/passwd', '/etc/shadow'],
      ['a\0b', 'c\0d'],
      ['con', 'nul'],
      ['', ''],
      ['a"; filename="b', 'x\r\ny: z'],
    ],
    ...[
      ['%2e%2e%2fx', '..\\..\\x'],
      ['\u202ex', 'x'.repeat(5000)],
    ],
  ] as const) {
    // File names of a client are never used; those that no header can hold are refused.
    const named = { config, weights }
    list.add(
      `named ${JSON.stringify([config, weights]).slice(0, 50)}`,
      upload(world, world.config, null, named),
      EITHER,
    )
  }
  list.add(
    'names that are right',
    upload(world, world.config, null, { config: CONFIG, weights: WEIGHTS }),
    LEGAL,
  )
  return list.cases

  /** The last tensor's end is the archive; bytes that would be no finite weight are rare enough. */
  function endingWith(tail: Buffer): Buffer {
    const bytes = Buffer.from(sound)
    if (tail.length <= 4000) tail.copy(bytes, bytes.length - tail.length)
    else return Buffer.concat([sound.subarray(0, 8), sound.subarray(8), tail])
    return bytes
  }
}

/** The zip's own end says how long a comment follows. */
function withComment(archive: Buffer, bytes: number): Buffer {
  const copy = Buffer.from(archive)
  copy.writeUInt16LE(bytes, copy.length - 2)
  return copy
}

function zip(files: readonly (readonly [name: string, bytes: Buffer])[], isPacked = false): Buffer {
  const local: Buffer[] = []
  const central: Buffer[] = []
  let offset = 0
  for (const [name, bytes] of files) {
    const packed = isPacked ? deflateRawSync(bytes) : bytes
    const fields = Buffer.alloc(26)
    fields.writeUInt16LE(20, 0)
    fields.writeUInt16LE(isPacked ? 8 : 0, 4)
    fields.writeUInt32LE(packed.length, 14)
    fields.writeUInt32LE(bytes.length, 18)
    fields.writeUInt16LE(name.length, 22)
    const entry = Buffer.concat([text('PK\x03\x04'), fields, text(name), packed])
    const rest = Buffer.alloc(14)
    rest.writeUInt32LE(offset, 10)
    central.push(Buffer.concat([text('PK\x01\x02'), text('\x14\0'), fields, rest, text(name)]))
    local.push(entry)
    offset += entry.length
  }
  const directory = Buffer.concat(central)
  const end = Buffer.alloc(18)
  end.writeUInt16LE(files.length, 4)
  end.writeUInt16LE(files.length, 6)
  end.writeUInt32LE(directory.length, 8)
  end.writeUInt32LE(offset, 12)
  return Buffer.concat([...local, directory, text('PK\x05\x06'), end])
}

function tar(name: string, bytes: Buffer, linkTo = ''): Buffer {
  const header = Buffer.alloc(512)
  header.write(name, 0)
  header.write('0000644\0', 100)
  header.write(`${bytes.length.toString(8).padStart(11, '0')}\0`, 124)
  header.write('        ', 148)
  header.write(linkTo === '' ? '0' : '2', 156)
  header.write(linkTo, 157)
  header.write('ustar\0', 257)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return Buffer.concat([
    header,
    bytes,
    Buffer.alloc((512 - (bytes.length % 512)) % 512),
    Buffer.alloc(1024),
  ])
}
