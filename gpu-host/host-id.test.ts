import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { readConfig } from './config.ts'
import { withHostId } from './host-id.ts'

let directory = ''
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'nozzle-host-id-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

const named = (home: string, env: Record<string, string> = {}) =>
  withHostId(
    readConfig({
      NOZZLE_POOL_SECRET: 'x'.repeat(32),
      NOZZLE_BASE_MODEL_PATH: 'none',
      NOZZLE_BASE_MODEL_NAME: 'base',
      NOZZLE_DATA_DIR: join(directory, home),
      ...env,
    }),
  )
const idOf = (home: string, env: Record<string, string> = {}) => named(home, env).hostId

it('is drawn once for each data directory', () => {
  const first = idOf('a')
  expect(first).toMatch(/^hst_[0-9a-f]{16}$/)
  expect(idOf('a')).toBe(first)
  expect(idOf('b')).not.toBe(first)
  expect(readdirSync(join(directory, 'a', 'host'))).toEqual(['id'])
})

it('is the operator’s where it is given, and then nothing is written', () => {
  expect(idOf('a', { NOZZLE_HOST_ID: 'hst_given' })).toBe('hst_given')
  expect(readdirSync(directory)).toEqual([])
})

it('refuses a file that holds none', () => {
  idOf('a')
  writeFileSync(join(directory, 'a', 'host', 'id'), 'not an id!\n')
  expect(() => idOf('a')).toThrowError(/holds no host id/)
})

it('stands beside a name: the operator’s, else the machine’s as far as it fits', () => {
  expect(named('a', { NOZZLE_HOST_NAME: 'gpu-2.north' }).hostName).toBe('gpu-2.north')
  expect(named('a').hostName).toMatch(/^[A-Za-z0-9._-]{1,80}$/)
  expect(() => named('a', { NOZZLE_HOST_NAME: 'a b' })).toThrowError(/NOZZLE_HOST_NAME/)
})
