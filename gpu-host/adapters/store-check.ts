/**
 * What Nozzle needs of a bucket, tried out on it one thing after the other, in a corner of its own
 * that is removed afterwards. Run by `nozzle store check` in a process of its own; prints JSON.
 */
import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { toolClock } from '../clock.ts'
import { readStoreAddress } from '../config.ts'
import { errorText } from '../log.ts'
import { digestOfHex } from './adapter-digest.ts'
import { S3Bucket } from './s3-bucket.ts'
import { S3Error } from './s3-error.ts'
import { S3Store } from './s3-store.ts'
import type { S3Settings } from './store-address.ts'

const MIB = 1024 * 1024
/** The least that AWS takes for a part which is not the last. */
const PART_BYTES = 5 * MIB

interface Outcome {
  readonly name: string
  readonly ok: boolean
  /** Why not. */
  readonly reason: string | null
  /** false = Nozzle can do without, since it proves all bytes itself. */
  readonly needed: boolean
}

class StoreCheck {
  readonly outcomes: Outcome[] = []
  readonly #bucket: S3Bucket
  readonly #store: S3Store
  readonly #key = `staging/check-${randomBytes(8).toString('hex')}/part`
  readonly #digest = digestOfHex(createHash('sha256').update(randomBytes(32)).digest('hex'))

  constructor(settings: S3Settings) {
    const { random } = Math
    this.#bucket = new S3Bucket({ settings, clock: toolClock, fetch, random })
    this.#store = new S3Store(this.#bucket, PART_BYTES)
  }

  async run(): Promise<void> {
    const directory = await mkdtemp(join(tmpdir(), 'nozzle-store-check-'))
    try {
      await this.#try('a small pack is stored and read back', () =>
        this.#roundTrip(directory, 1000),
      )
      await this.#try('a large one goes in parts, and replaces it', () =>
        this.#roundTrip(directory, 2 * PART_BYTES + 1234),
      )
      await this.#try('a read goes on in the middle, of the same object only', () => this.#resume())
      await this.#try('what is not there is told as that', () => this.#missing())
      await this.#try('a signed URL takes a part from a client', () => this.#putSigned({}))
      await this.#try('parts that wait are listed', () => this.#list())
      await this.#try('a signed URL is for one name', () => this.#refused({ path: 'other' }))
      await this.#try('a signed URL is for one length', () => this.#refused({ bytes: 99 }))
      await this.#try('a signed URL is for one content', () => this.#refused({ fill: 9 }), false)
      await this.#try('a signed URL runs out', () => this.#refused({ expiresS: 1 }))
    } finally {
      await rm(directory, { recursive: true, force: true })
      await this.#try('objects are removed', () => this.#clear())
    }
  }

  async #try(name: string, work: () => Promise<void>, needed = true): Promise<void> {
    try {
      await work()
      this.outcomes.push({ name, ok: true, reason: null, needed })
    } catch (error) {
      this.outcomes.push({ name, ok: false, reason: errorText(error), needed })
    }
  }

  async #roundTrip(directory: string, size: number): Promise<void> {
    const bytes = randomBytes(size)
    const path = join(directory, 'pack')
    await writeFile(path, bytes)
    await this.#store.put(this.#digest, path)
    const chunks = await this.#store.get(this.#digest, new AbortController().signal)
    if (chunks === null) throw new Error('it is not there')
    const read = Buffer.concat(await Array.fromAsync(chunks))
    if (!read.equals(bytes)) throw new Error(`${read.length} other bytes came back`)
  }

  async #resume(): Promise<void> {
    const key = await this.#packKey()
    const whole = await this.#bucket.send({ method: 'GET', key })
    const etag = whole.headers.get('etag') ?? ''
    const bytes = Buffer.from(await whole.arrayBuffer())
    const headers = { range: 'bytes=1000000-', 'if-match': etag }
    const rest = await this.#bucket.send({ method: 'GET', key, headers })
    if (rest.status !== 206) throw new Error(`status ${rest.status} to a range`)
    const tail = Buffer.from(await rest.arrayBuffer())
    if (!tail.equals(bytes.subarray(1_000_000))) throw new Error('it is not the rest')
    const other = { range: 'bytes=1000000-', 'if-match': '"0123456789abcdef0123456789abcdef"' }
    await expectCode(this.#bucket.send({ method: 'GET', key, headers: other }), [
      'PreconditionFailed',
    ])
  }

  async #missing(): Promise<void> {
    const nothing = digestOfHex('0'.repeat(64))
    const chunks = await this.#store.get(nothing, new AbortController().signal)
    if (chunks !== null) throw new Error('something is there')
  }

  async #list(): Promise<void> {
    const found = await Array.fromAsync(this.#bucket.list(this.#key))
    const [object] = found
    const age = Math.abs(Date.now() - (object?.modifiedAtMs ?? 0))
    if (found.length !== 1 || object?.bytes !== 100) throw new Error('it is not listed as it is')
    if (!(age < 15 * 60_000)) throw new Error('its time is not that of this machine')
  }

  async #putSigned(change: Tampering): Promise<void> {
    const status = await this.#putStatus(change)
    if (status !== 200) throw new Error(`status ${status}`)
  }

  async #refused(change: Tampering): Promise<void> {
    const status = await this.#putStatus(change)
    if (status < 400 || status >= 500) throw new Error(`status ${status}, it should be refused`)
  }

  /** A part of 100 bytes, as a client sends it, or not quite. */
  async #putStatus({ path, bytes = 100, fill = 1, expiresS = 900 }: Tampering): Promise<number> {
    const checksum = createHash('sha256').update(Buffer.alloc(100, 1)).digest('base64')
    const headers = { 'x-amz-checksum-sha256': checksum }
    const bound = { ...headers, 'content-length': '100' }
    const call = { method: 'PUT', key: this.#key, headers: bound } as const
    const signed = await this.#bucket.presign(call, expiresS)
    if (expiresS === 1) await new Promise((resolve) => setTimeout(resolve, 2500))
    const url = path === undefined ? signed : signed.replace('/part?', `/${path}?`)
    const body = Buffer.alloc(bytes, fill)
    const response = await fetch(url, { method: 'PUT', headers, body })
    await response.arrayBuffer()
    return response.status
  }

  async #clear(): Promise<void> {
    const keys = [this.#key, await this.#packKey()]
    for (const key of keys) await this.#bucket.sendForText({ method: 'DELETE', key })
    await expectCode(this.#bucket.send({ method: 'GET', key: this.#key }), ['NoSuchKey'])
  }

  async #packKey(): Promise<string> {
    const hex = this.#digest.slice('sha256:'.length)
    return `packs/${hex.slice(0, 2)}/${hex}.nzpack`
  }
}

interface Tampering {
  readonly path?: string
  readonly bytes?: number
  readonly fill?: number
  readonly expiresS?: number
}

async function expectCode(work: Promise<Response>, codes: readonly string[]): Promise<void> {
  try {
    const response = await work
    await response.body?.cancel()
  } catch (error) {
    if (error instanceof S3Error && codes.includes(error.code)) return
    throw error
  }
  throw new Error(`it should be refused with ${codes.join(' or ')}`)
}

async function check(): Promise<object> {
  const address = readStoreAddress()
  if (address.kind === 'directory') return { directory: address.directory }
  const { bucket, prefix, endpoint } = address.s3
  const checks = new StoreCheck(address.s3)
  await checks.run()
  return { bucket, prefix, endpoint, checks: checks.outcomes }
}

const reply = await check().catch((error: unknown) => ({ failure: errorText(error) }))
process.stdout.write(`${JSON.stringify(reply)}\n`)
