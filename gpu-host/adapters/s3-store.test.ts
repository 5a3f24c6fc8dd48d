import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../clock.ts'
import { S3Bucket } from './s3-bucket.ts'
import { S3Store } from './s3-store.ts'
import type { S3Settings } from './store-address.ts'
import { digestOf } from './test/support/images.ts'
import { type Fault, type S3Request, S3Server, SLOW_DOWN } from './test/support/s3-server.ts'

const { signal } = new AbortController()
const DIGEST = digestOf('a')

let server: S3Server
let directory: string
beforeEach(async () => {
  server = await S3Server.start()
  directory = mkdtempSync(join(tmpdir(), 'nozzle-s3-'))
})
afterEach(async () => {
  await server.stop()
  rmSync(directory, { recursive: true, force: true })
})

function createStore(settings: Partial<S3Settings> = {}, partBytes?: number): S3Store {
  const bucket = new S3Bucket({
    settings: { ...server.settings, ...settings },
    clock: systemClock,
    fetch,
    // The pauses are not what is tested here.
    random: () => 0,
  })
  return new S3Store(bucket, partBytes)
}

/** Bytes that repeat nowhere, so that a piece in the wrong place shows. */
function bytesOf(count: number): Buffer {
  const blocks = Array.from({ length: Math.ceil(count / 32) }, (_, i) =>
    createHash('sha256').update(String(i)).digest(),
  )
  return Buffer.concat(blocks).subarray(0, count)
}

async function put(store: S3Store, bytes: Uint8Array, digest = DIGEST): Promise<void> {
  const path = join(directory, 'pack')
  writeFileSync(path, bytes)
  await store.put(digest, path)
}

async function read(store: S3Store, digest = DIGEST): Promise<Buffer | null> {
  const chunks = await store.get(digest, signal)
  return chunks === null ? null : Buffer.concat(await Array.fromAsync(chunks))
}

/** The first so many matching requests meet it. */
function failFirst(count: number, fault: Fault, matches = (_: S3Request) => true): void {
  let left = count
  server.fault = (request) => {
    if (left === 0 || !matches(request)) return null
    left -= 1
    return fault
  }
}

describe('S3Store', () => {
  it('gives back what was put, under a name that holds the digest', async () => {
    const store = createStore()
    expect(await read(store)).toBeNull()
    await put(store, bytesOf(1000))
    expect(await read(store)).toEqual(bytesOf(1000))
    const hex = DIGEST.slice('sha256:'.length)
    expect([...server.objects.keys()]).toEqual([`pool/packs/${hex.slice(0, 2)}/${hex}.nzpack`])
    await put(store, bytesOf(999))
    expect(await read(store)).toEqual(bytesOf(999))
  })

  it('asks for nothing that is no digest', async () => {
    expect(await read(createStore(), 'sha256:../../x')).toBeNull()
    expect(server.requests).toEqual([])
  })

  it('sends a large pack in parts, which appear all at once', async () => {
    server.partBytesMin = 1000
    const store = createStore({}, 1000)
    const sizes: number[] = []
    server.fault = ({ query }) => {
      if (query.has('partNumber')) sizes.push(server.objects.size)
      return null
    }
    await put(store, bytesOf(4500))
    expect(sizes).toEqual([0, 0, 0, 0, 0])
    expect(await read(store)).toEqual(bytesOf(4500))
    expect(server.uploads.size).toBe(0)
  })

  it('leaves no parts behind when one of them cannot be stored', async () => {
    const store = createStore({}, 1000)
    server.fault = ({ query }) =>
      query.get('partNumber') === '2' ? { kind: 'answer', status: 403, body: 'no' } : null
    await expect(put(store, bytesOf(4500))).rejects.toMatchObject({ code: 'not_s3' })
    expect([server.objects.size, server.uploads.size]).toEqual([0, 0])
    expect(server.requests.filter(({ query }) => query.has('uploads'))).toHaveLength(1)
  })

  it('tells an error in a reply of status 200, and tries again', async () => {
    server.partBytesMin = 1
    const store = createStore({}, 1000)
    const error = '<Error><Code>InternalError</Code><Message>We erred.</Message></Error>'
    const isEnd = ({ method, query }: S3Request) => method === 'POST' && query.has('uploadId')
    failFirst(1, { kind: 'answer', status: 200, body: error }, isEnd)
    await put(store, bytesOf(2500))
    expect(await read(store)).toEqual(bytesOf(2500))
  })

  it.each([
    ['SlowDown', SLOW_DOWN],
    ['500', { kind: 'answer', status: 500, body: '' }],
    ['a connection that breaks as the body begins', { kind: 'reset', afterBytes: 0 }],
  ] as const)('tries again after %s', async (_, fault) => {
    const store = createStore()
    await put(store, bytesOf(1000))
    failFirst(2, fault)
    expect(await read(store)).toEqual(bytesOf(1000))
    expect(server.count('GET')).toBe(3)
  })

  it('goes on behind what was read when the connection breaks', async () => {
    const store = createStore()
    const bytes = bytesOf(300_000)
    await put(store, bytes)
    failFirst(2, { kind: 'reset', afterBytes: 100_000 })
    expect(await read(store)).toEqual(bytes)
    const ranges = server.requests.map(({ headers }) => headers.range)
    expect(ranges.at(-1)).toBe('bytes=200000-')
  })

  it('does not sew two objects together', async () => {
    const store = createStore()
    await put(store, bytesOf(300_000))
    const [key = ''] = server.objects.keys()
    server.fault = ({ headers }) => {
      if (headers.range !== undefined) return null
      setImmediate(() => server.put(key, Buffer.alloc(300_000)))
      return { kind: 'reset', afterBytes: 100_000 }
    }
    await expect(read(store)).rejects.toMatchObject({ code: 'PreconditionFailed' })
  })

  it('gives up on a connection that always breaks at once', async () => {
    const store = createStore()
    await put(store, bytesOf(300_000))
    server.fault = () => ({ kind: 'reset', afterBytes: 0 })
    await expect(read(store)).rejects.toMatchObject({ name: 'S3Error', isTransient: true })
  })
})

describe('a store that refuses', () => {
  it.each([
    ['another bucket', { bucket: 'not-there' }, 'NoSuchBucket', 'NOZZLE_STORE'],
    ['another key id', { accessKeyId: 'AKIDOTHER' }, 'InvalidAccessKeyId', 'ACCESS_KEY_ID'],
    ['another secret', { secretAccessKey: 'no' }, 'SignatureDoesNotMatch', 'SECRET_ACCESS_KEY'],
    ['another region', { region: 'us-east-1' }, 'AuthorizationHeaderMalformed', 'STORE_REGION'],
  ] as const)(
    'says what to correct for %s, once and without secrets',
    async (_, settings, code, fix) => {
      const error = await read(createStore(settings)).catch((reason: unknown) => reason)
      expect(error).toMatchObject({ code, message: expect.stringContaining(fix) })
      expect(String(error)).not.toContain(server.settings.secretAccessKey)
      expect(server.requests).toHaveLength(1)
    },
  )

  it('says that the clock of this machine is wrong', async () => {
    const clock = { ...systemClock, nowMs: () => Date.now() - 3_600_000 }
    const { settings } = server
    const store = new S3Store(new S3Bucket({ settings, clock, fetch, random: () => 0 }))
    await expect(store.get(DIGEST, signal)).rejects.toMatchObject({
      code: 'RequestTimeTooSkewed',
      message: expect.stringContaining('clock of this machine'),
    })
  })

  it.each([200, 404])('is not S3 where it answers %i with a page', async (status) => {
    const store = createStore()
    server.fault = () => ({ kind: 'answer', status, body: '<html>Please log in</html>' })
    if (status === 200) expect(String(await read(store))).toContain('log in')
    else {
      await expect(read(store)).rejects.toMatchObject({
        code: 'not_s3',
        message: expect.stringContaining('NOZZLE_STORE_ENDPOINT'),
      })
    }
  })

  it('and one that is not there are told apart', async () => {
    await server.stop()
    await expect(read(createStore())).rejects.toMatchObject({
      code: 'unreachable',
      message: expect.stringContaining('ECONNREFUSED'),
    })
  })
})
