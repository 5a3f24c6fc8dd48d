import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { locateDataDir } from '../lib/data-dir.ts'
import {
  dropPlanned,
  FIRST_HOST,
  hostHome,
  hostJournals,
  nextHost,
  readHostPlan,
  resizePlan,
  writeHostPlan,
} from './host-plan.ts'

let root = ''
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'nozzle-plan-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))
const dir = () => locateDataDir({ NOZZLE_DATA_DIR: root }, root)
const names = (plan: readonly { name: string }[]) => plan.map(({ name }) => name)

describe('the plan of hosts', () => {
  it('is one host until told otherwise, and is kept', () => {
    expect(readHostPlan(dir())).toEqual([FIRST_HOST])
    const plan = [FIRST_HOST, nextHost([FIRST_HOST], 9001)]
    writeHostPlan(dir(), plan)
    expect(readHostPlan(dir())).toEqual(plan)
  })

  it('grows by the lowest free number, and shrinks from the end', () => {
    const three = resizePlan([FIRST_HOST], 3)
    expect(names(three)).toEqual(['host', 'host-2', 'host-3'])
    const gap = three.filter(({ name }) => name !== 'host-2')
    expect(nextHost(gap, 0).name).toBe('host-2')
    expect(nextHost(three.slice(1), 0).name).toBe('host')
    expect(names(resizePlan(three, 1))).toEqual(['host'])
  })

  it('loses one entry alone, and journals outlive theirs', () => {
    writeHostPlan(dir(), resizePlan([FIRST_HOST], 3))
    const journals = ['host', 'host-2', 'host-3'].map((name) =>
      join(hostHome(dir(), name), 'host', 'journal'),
    )
    for (const path of journals) mkdirSync(path, { recursive: true })
    dropPlanned(dir(), 'host-2')
    expect(names(readHostPlan(dir()))).toEqual(['host', 'host-3'])
    expect(hostJournals(dir())).toEqual(journals)
  })

  it('is refused when it is damaged', () => {
    writeFileSync(join(root, 'hosts.json'), '[{"name":"../elsewhere","port":0,"restarts":0}]')
    expect(() => readHostPlan(dir())).toThrow(expect.objectContaining({ reason: 'refused' }))
  })
})
