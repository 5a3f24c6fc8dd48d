/**
 * Bad inputs of nine classes against an edge and a host as an operator runs them, with the native
 * engine: each is answered as it must be, both processes live on, and the next sound request has
 * its right answer. All of them here, with a sound request after every so many; `npm run soak --
 * --bad-inputs` sends one after each. NOZZLE_BAD_INPUTS=<id or class>,… sends those alone.
 */
import { appendFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { partsOf, upload } from './bad-inputs/adapter-world.ts'
import { CLASSES, LEGAL, post, refusedAt, TEXT_PATH } from './bad-inputs/bad-case.ts'
import { createCorpus } from './bad-inputs/corpus.ts'
import { judge } from './bad-inputs/judge.ts'
import { runCorpus } from './bad-inputs/run-corpus.ts'
import { Target, type Vitals } from './bad-inputs/target.ts'

const CASES_MIN = 2500
const GOOD_EVERY = Number(process.env.NOZZLE_BAD_INPUTS_GOOD_EVERY ?? 25)
const ONLY = process.env.NOZZLE_BAD_INPUTS?.split(',') ?? null
const REPORT = process.env.NOZZLE_BAD_INPUTS_REPORT
/** Poisoned and sound requests at once: as many as a tenant may have waiting beside each other. */
const PAIRS = 8
const TIMEOUT_MS = GOOD_EVERY === 1 ? 3_600_000 : 600_000

const directory = mkdtempSync(join(tmpdir(), 'nozzle-bad-inputs-'))
let target: Target
let pids: Pick<Vitals, 'edgePid' | 'hostPid'>
beforeAll(async () => {
  target = await Target.start(directory)
  const { edgePid, hostPid } = target.vitals()
  pids = { edgePid, hostPid }
})
afterAll(async () => {
  await target?.stop()
  rmSync(directory, { recursive: true, force: true })
})

describe('bad inputs', () => {
  it(
    'are each refused or served, and harm neither process, answer nor log',
    async () => {
      const corpus = createCorpus(target.world)
      const cases = corpus.filter(
        ({ id, classId }) => ONLY === null || ONLY.includes(id) || ONLY.includes(classId),
      )
      expect(new Set(corpus.map(({ id }) => id)).size).toBe(corpus.length)
      expect(corpus.length).toBeGreaterThanOrEqual(CASES_MIN)
      expect(new Set(corpus.map(({ classId }) => classId)).size).toBe(Object.keys(CLASSES).length)
      const found = await runCorpus(target, cases, { goodEvery: GOOD_EVERY })
      if (REPORT !== undefined) appendFileSync(REPORT, `${JSON.stringify(found)}\n`)
      expect(found.faults).toEqual([])
      expect(found.exits).toBe(0)
      // What is looked through for leaks is not nothing.
      expect(target.logCharacters).toBeGreaterThan(cases.length)
    },
    TIMEOUT_MS,
  )

  it('an adapter that overflows ends its own requests, and no neighbour notices', async () => {
    const { world } = target
    const { config } = partsOf(world)
    const poison = JSON.stringify({ ...config, lora_alpha: 3e38 })
    const deployed = await target.send({ ...upload(world, poison), model: 'overflows' })
    expect(judge(deployed, LEGAL)).toEqual({ is: 'legal' })
    const ask = { model: 'overflows', prompt: 'to infinity', max_tokens: 8 }
    const isStream = (i: number): boolean => i % 3 === 0
    const poisoned = Array.from({ length: PAIRS }, (_, i) => {
      const body = JSON.stringify({ ...ask, stream: isStream(i), n: 1 + (i % 2) })
      return target.send(post(TEXT_PATH, world.tenantKey, body))
    })
    // Beside them, and afterwards.
    await Promise.all(Array.from({ length: PAIRS }, () => target.assertGood()))
    for (const reply of await Promise.all(poisoned)) {
      expect(judge(reply, refusedAt('model'))).toEqual({ is: 'refused' })
    }
    await target.assertGood()
    expect(target.vitals()).toMatchObject(pids)
  })
})
