/** `nozzle store`, against a store that speaks S3 and is strict about it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { writePack } from '../../gpu-host/adapters/pack-file.ts'
import { DirectoryStore } from '../../gpu-host/adapters/store-tier.ts'
import { createImage } from '../../gpu-host/adapters/test/support/images.ts'
import { S3Server } from '../../gpu-host/adapters/test/support/s3-server.ts'
import { type CliRun, runInEnv } from '../test/cli-run.ts'

let server: S3Server
let directory: string
beforeEach(async () => {
  server = await S3Server.start()
  directory = mkdtempSync(join(tmpdir(), 'nozzle-store-'))
})
afterEach(async () => {
  await server.stop()
  rmSync(directory, { recursive: true, force: true })
})

function nozzle(...argv: string[]): Promise<CliRun> {
  const { bucket, endpoint, region, accessKeyId, secretAccessKey } = server.settings
  return runInEnv([...argv, '--json'], {
    NOZZLE_STORE: `s3://${bucket}/pool`,
    NOZZLE_STORE_ENDPOINT: endpoint,
    NOZZLE_STORE_REGION: region,
    NOZZLE_STORE_ACCESS_KEY_ID: accessKeyId,
    NOZZLE_STORE_SECRET_ACCESS_KEY: secretAccessKey,
  })
}

interface Checked {
  checks: { name: string; ok: boolean; needed: boolean; reason: string | null }[]
}

describe('nozzle store check', () => {
  it('tries everything out, and leaves nothing behind', async () => {
    const { exitCode, stdout } = await nozzle('store', 'check')
    const { checks }: Checked = JSON.parse(stdout)
    expect(checks.filter(({ ok }) => !ok)).toEqual([])
    expect([exitCode, checks.length, server.objects.size]).toEqual([0, 11, 0])
  })

  it('says what is missing and what to allow', async () => {
    const denied = '<Error><Code>AccessDenied</Code><Message>no list</Message></Error>'
    server.fault = ({ query }) =>
      query.has('list-type') ? { kind: 'answer', status: 403, body: denied } : null
    const { exitCode, stdout } = await nozzle('store', 'check')
    const { checks }: Checked = JSON.parse(stdout)
    const failed = checks.filter(({ ok }) => !ok)
    expect(failed).toMatchObject([
      { name: 'parts that wait are listed', reason: expect.stringContaining('list the bucket') },
    ])
    expect(exitCode).toBe(4)
  })
})

describe('nozzle store copy', () => {
  it('copies what is not there yet, proves it, and names what is damaged', async () => {
    const from = new DirectoryStore(directory)
    const images = ['a', 'b', 'c'].map((name) => createImage(name))
    for (const image of images) {
      const path = join(directory, 'pack')
      await writePack(path, image)
      await from.put(image.manifest.digest, path)
      rmSync(path)
    }
    const target = `s3://${server.settings.bucket}/pool`
    const dry = await nozzle('store', 'copy', directory, target, '--dry-run')
    expect(JSON.parse(dry.stdout)).toMatchObject({ dry_run: true, copied: 3, present: 0 })
    expect([dry.exitCode, server.objects.size]).toEqual([0, 0])
    const first = await nozzle('store', 'copy', directory, target)
    expect(JSON.parse(first.stdout)).toMatchObject({ copied: 3, present: 0, damaged: [] })
    expect([first.exitCode, server.objects.size]).toEqual([0, 3])

    const [lost = '', altered = ''] = [...server.objects.keys()]
    server.objects.delete(lost)
    server.put(altered, Buffer.from('rubbish'))
    const again = await nozzle('store', 'copy', directory, target)
    expect(JSON.parse(again.stdout)).toMatchObject({ copied: 2, present: 1 })

    server.objects.clear()
    const [hex = ''] = (images[0]?.manifest.digest ?? '').split(':').slice(1)
    writeFileSync(join(directory, hex.slice(0, 2), `${hex}.nzpack`), 'rubbish')
    const damaged = await nozzle('store', 'copy', directory, target)
    expect(JSON.parse(damaged.stdout)).toMatchObject({ copied: 2, damaged: [`sha256:${hex}`] })
    expect([damaged.exitCode, damaged.stderr]).toEqual([4, expect.stringContaining(hex)])
    // And back again, out of the bucket.
    const home = join(directory, 'home')
    const back = await nozzle('store', 'copy', target, home)
    expect(JSON.parse(back.stdout)).toMatchObject({ copied: 2, present: 0 })
  })

  it('says when a store is away', async () => {
    await server.stop()
    const { exitCode, stderr } = await nozzle('store', 'copy', 's3://bucket/pool', directory)
    expect([exitCode, stderr]).toEqual([6, expect.stringContaining('NOZZLE_STORE_ENDPOINT')])
  })
})
