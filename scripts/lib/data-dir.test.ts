import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { parseApiKey } from '../../edge/auth/api-key.ts'
import {
  createDataDir,
  loadSecrets,
  locateDataDir,
  readDemoKey,
  readRunning,
  readSecrets,
  writePrivateFile,
} from './data-dir.ts'

let root = ''
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'nozzle-data-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))
const locate = () => locateDataDir({ NOZZLE_DATA_DIR: root }, '/elsewhere')

describe('locateDataDir', () => {
  it('is .nozzle of the checkout unless NOZZLE_DATA_DIR says otherwise', () => {
    expect(locateDataDir({}, '/checkout').root).toBe('/checkout/.nozzle')
    expect(locateDataDir({ NOZZLE_DATA_DIR: '' }, '/checkout').root).toBe('/checkout/.nozzle')
    expect(locate().root).toBe(root)
  })
})

describe('loadSecrets', () => {
  it('makes them once, whole, and for the owner alone', async () => {
    const dir = locate()
    createDataDir(dir)
    expect(readSecrets(dir)).toBeNull()
    const secrets = await loadSecrets(dir)
    expect(await loadSecrets(dir)).toEqual(secrets)
    expect(parseApiKey(secrets.operator_key)).not.toBeNull()
    expect(secrets.pool_secret).not.toBe(secrets.key_pepper)
    expect(statSync(dir.secretsFile).mode & 0o777).toBe(0o600)
    expect(statSync(dir.logs).mode & 0o777).toBe(0o700)
  })

  it.each(['', '{', '{"pool_secret":"short"}'])(
    'refuses a damaged file instead of replacing it: %j',
    async (text) => {
      const dir = locate()
      writeFileSync(dir.secretsFile, text)
      await expect(loadSecrets(dir)).rejects.toMatchObject({ reason: 'refused' })
      expect(readFileSync(dir.secretsFile, 'utf8')).toBe(text)
    },
  )
})

describe('files of a running pool', () => {
  it('are absent before the first start', () => {
    expect(readRunning(locate())).toBeNull()
    expect(readDemoKey(locate())).toBeNull()
  })

  it('are read back without their line end', () => {
    writePrivateFile(locate().demoKeyFile, 'nz_key\n')
    expect(readDemoKey(locate())).toBe('nz_key')
  })
})

describe('writePrivateFile', () => {
  it('replaces a file that others could read', () => {
    const path = join(root, 'file')
    writeFileSync(path, 'old')
    chmodSync(path, 0o644)
    writePrivateFile(path, 'new')
    expect(readFileSync(path, 'utf8')).toBe('new')
    expect(statSync(path).mode & 0o777).toBe(0o600)
  })
})
