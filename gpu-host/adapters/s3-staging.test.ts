import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../clock.ts'
import { UPLOAD_PART_BYTES, type UploadFile } from '../protocol.ts'
import { S3Bucket } from './s3-bucket.ts'
import { S3Staging, type StagingPlan } from './s3-staging.ts'
import { S3Server } from './test/support/s3-server.ts'

const DAY_MS = 86_400_000
const TENANT = 'ten_a'

const hashOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
const CONFIG = Buffer.from('{"r": 8}')
/** Of two parts. */
const WEIGHTS = Buffer.alloc(UPLOAD_PART_BYTES + 1000, 7)
const PARTS = [WEIGHTS.subarray(0, UPLOAD_PART_BYTES), WEIGHTS.subarray(UPLOAD_PART_BYTES)]

const fileOf = (bytes: Buffer, parts: readonly Buffer[]): UploadFile => ({
  bytes: bytes.length,
  sha256: hashOf(bytes),
  part_sha256: parts.map(hashOf),
})
const FILES = { config: fileOf(CONFIG, [CONFIG]), weights: fileOf(WEIGHTS, PARTS) }

let server: S3Server
let directory: string
let nowMs: number
beforeEach(async () => {
  server = await S3Server.start()
  directory = mkdtempSync(join(tmpdir(), 'nozzle-staging-'))
  nowMs = Date.now()
})
afterEach(async () => {
  await server.stop()
  rmSync(directory, { recursive: true, force: true })
})

function createStaging(): S3Staging {
  const clock = { ...systemClock, nowMs: () => nowMs }
  const bucket = new S3Bucket({ settings: server.settings, clock, fetch, random: () => 0 })
  return new S3Staging({ bucket, clock, log: () => {} })
}

function put(part: StagingPlan['parts'][number], body: Buffer, headers = {}): Promise<Response> {
  return fetch(part.url, { method: 'PUT', headers: { ...part.headers, ...headers }, body })
}

async function planned(staging: S3Staging) {
  const { parts } = await staging.plan(TENANT, FILES)
  const [config, first, second] = parts
  if (!config || !first || !second) throw new Error('not three parts')
  return { config, first, second }
}

describe('S3Staging', () => {
  it('puts together what was sent, and plans only what is missing', async () => {
    const staging = createStaging()
    const plan = await planned(staging)
    expect((await put(plan.second, PARTS[1] ?? CONFIG)).status).toBe(200)
    expect((await put(plan.config, CONFIG)).status).toBe(200)
    const next = await staging.plan(TENANT, FILES)
    expect(next.parts.map(({ file, index }) => [file, index])).toEqual([['weights', 0]])
    expect(next.bytes_staged).toBe(CONFIG.length + 1000)
    const path = join(directory, 'weights')
    await expect(staging.fetch(TENANT, FILES.weights, path)).rejects.toMatchObject({
      code: 'upload_incomplete',
      status: 409,
    })
    rmSync(path)
    await put(plan.first, PARTS[0] ?? CONFIG)
    await staging.fetch(TENANT, FILES.weights, path)
    expect(readFileSync(path).equals(WEIGHTS)).toBe(true)
    await staging.discard(TENANT, FILES)
    expect(server.objects.size).toBe(0)
  })

  it('signs for these bytes alone, under this name, for a while', async () => {
    const { second } = await planned(createStaging())
    const bytes = PARTS[1] ?? CONFIG
    const other = Buffer.alloc(bytes.length, 8)
    const checksum = createHash('sha256').update(other).digest('base64')
    const attempts = [
      put(second, other),
      put(second, other, { 'x-amz-checksum-sha256': checksum }),
      put(second, bytes.subarray(1)),
      put({ ...second, url: second.url.replace(TENANT, 'ten_b') }, bytes),
      put({ ...second, url: second.url.replace('X-Amz-Expires=900', 'X-Amz-Expires=9000') }, bytes),
      fetch(second.url, { method: 'DELETE', headers: second.headers }),
      fetch(second.url, { method: 'PUT', body: bytes }),
    ]
    const statuses = (await Promise.all(attempts)).map(({ status }) => status)
    expect(statuses).toEqual([400, 403, 403, 403, 403, 403, 403])
    expect(server.objects.size).toBe(0)
    server.nowMs = () => nowMs + 899_000
    expect((await put(second, bytes)).status).toBe(200)
    server.nowMs = () => nowMs + 902_000
    expect((await put(second, bytes)).status).toBe(403)
  })

  it('removes a part of other bytes, where the store let it in', async () => {
    const staging = createStaging()
    const { config } = await planned(staging)
    await put(config, CONFIG)
    const [key = ''] = server.objects.keys()
    server.put(key, Buffer.alloc(CONFIG.length))
    const path = join(directory, 'config')
    await expect(staging.fetch(TENANT, FILES.config, path)).rejects.toMatchObject({
      code: 'upload_incomplete',
    })
    expect((await staging.plan(TENANT, FILES)).bytes_staged).toBe(0)
  })

  it('refuses a file that its parts do not make', async () => {
    const staging = createStaging()
    const { config } = await planned(staging)
    await put(config, CONFIG)
    const [key = ''] = server.objects.keys()
    const claimed = { ...FILES.config, sha256: 'c'.repeat(64) }
    server.put(key.replace(FILES.config.sha256, claimed.sha256), CONFIG)
    await expect(staging.fetch(TENANT, claimed, join(directory, 'config'))).rejects.toMatchObject({
      code: 'invalid_request',
      param: 'files.sha256',
    })
  })

  it('sweeps away what was abandoned, page by page, and nothing else', async () => {
    server.page = 2
    for (let i = 0; i < 5; i += 1) {
      server.put(`pool/staging/ten_a/x/${i}`, CONFIG, nowMs - DAY_MS - 1)
    }
    server.put('pool/staging/ten_a/y/0', CONFIG, nowMs - DAY_MS + 60_000)
    server.put('pool/packs/aa/old.nzpack', CONFIG, nowMs - 100 * DAY_MS)
    expect(await createStaging().sweep()).toBe(5)
    expect([...server.objects.keys()].sort()).toEqual([
      'pool/packs/aa/old.nzpack',
      'pool/staging/ten_a/y/0',
    ])
  })

  it('says that the store is away, not that parts are missing', async () => {
    server.fault = () => ({ kind: 'answer', status: 503, body: '' })
    const staging = createStaging()
    const away = { code: 'store_unavailable', status: 503 }
    await expect(staging.plan(TENANT, FILES)).rejects.toMatchObject(away)
    const path = join(directory, 'config')
    await expect(staging.fetch(TENANT, FILES.config, path)).rejects.toMatchObject(away)
    await staging.discard(TENANT, FILES)
  })
})
