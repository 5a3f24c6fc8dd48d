/**
 * The shape of a deployment on Cloudflare, of real parts on one machine: the Worker in workerd on
 * Neon's HTTP driver, and adapters in R2, which clients send their files to without passing the
 * Worker, and which a host has them from that never saw them.
 */
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { deployedVersion } from '../scripts/lib/edge-replies.ts'
import { ask, chatBody } from './support/inference.ts'
import { describeOnPools, IN_WORKERD } from './support/on-edges.ts'
import { type Pool, startPool } from './support/pool.ts'
import { createPoolHome, type PoolHome } from './support/pool-home.ts'
import { type R2Bucket, startR2Bucket } from './support/r2-bucket.ts'
import { ANSWER_TOKENS_MAX, adapterDirectory, caseOf, isRight } from './support/tasks.ts'

const TASK = 'text-to-sql'
const MODEL = 'from-r2'

describeOnPools('adapters in R2', IN_WORKERD, (edge) => {
  let bucket: R2Bucket
  let home: PoolHome
  let pool: Pool

  beforeAll(async () => {
    bucket = await startR2Bucket()
    home = await createPoolHome(edge)
    home = { ...home, env: { ...home.env, ...bucket.env } }
    pool = await startPool(home)
  })
  afterAll(async () => {
    await pool?.stop()
    await home?.remove()
    await bucket?.stop()
  })

  async function expectRightAnswer(): Promise<void> {
    const example = caseOf(TASK)
    const baseUrl = `${pool.edgeUrl}/demo/${MODEL}/v1`
    const body = chatBody(example.prompt, ANSWER_TOKENS_MAX)
    const reply = await ask({ baseUrl, apiKey: pool.demoKey, body })
    expect(reply).toMatchObject({ status: 200, error: null })
    expect(isRight(example, reply.text), reply.text).toBe(true)
  }

  it('come there past the Worker, and are served', async () => {
    const { exitCode, stdout, stderr } = await pool.nozzle(
      ...['deploy', adapterDirectory(TASK), '--model', MODEL, '--json'],
    )
    expect(exitCode, stderr).toBe(0)
    expect(deployedVersion.parse(JSON.parse(stdout))).toMatchObject({ model: MODEL, version: 1 })
    expect(existsSync(join(home.directory, 'store'))).toBe(false)
    await expectRightAnswer()
  })

  it('are served by a host that has nothing of them', async () => {
    expect(await pool.stop()).toBe(0)
    rmSync(join(home.directory, 'host', 'adapters'), { recursive: true })
    pool = await startPool(home)
    await expectRightAnswer()
  })
})
