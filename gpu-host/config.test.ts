import { describe, expect, it } from 'vitest'
import { readConfig } from './config.ts'

const REQUIRED = {
  NOZZLE_POOL_SECRET: 'x'.repeat(32),
  NOZZLE_BASE_MODEL_PATH: '/models/base.gguf',
  NOZZLE_BASE_MODEL_NAME: 'base',
}

describe('readConfig', () => {
  it('takes defaults for all that is not required, and listens on loopback', () => {
    expect(readConfig(REQUIRED)).toMatchObject({ address: '127.0.0.1', port: 0, edgeUrls: [] })
  })

  it('names every variable that is wrong, and prints no secret', () => {
    const env = { ...REQUIRED, NOZZLE_POOL_SECRET: 'hunter2', NOZZLE_SLOTS: 'many' }
    expect(() => readConfig(env)).toThrowError(/NOZZLE_POOL_SECRET.*NOZZLE_SLOTS/)
    expect(() => readConfig(env)).not.toThrowError(/hunter2/)
  })

  it('keeps half of all contexts in the KV pool, one at least, unless told otherwise', () => {
    const cells = (env: Record<string, string>) =>
      readConfig({ ...REQUIRED, ...env }).engine.kvCells
    expect(cells({ NOZZLE_SEQUENCES: '16', NOZZLE_CONTEXT_LENGTH: '2048' })).toBe(16_384)
    expect(cells({ NOZZLE_SEQUENCES: '1', NOZZLE_CONTEXT_LENGTH: '2048' })).toBe(2048)
    expect(cells({ NOZZLE_KV_TOKENS: '5000' })).toBe(5000)
    expect(() => cells({ NOZZLE_KV_TOKENS: '2000' })).toThrowError(/NOZZLE_KV_TOKENS.*2048/)
  })

  it('keeps packs in a directory, or in the bucket that it is told of', () => {
    const store = (env: Record<string, string>) => readConfig({ ...REQUIRED, ...env }).store
    const keys = { NOZZLE_STORE_ACCESS_KEY_ID: 'id', NOZZLE_STORE_SECRET_ACCESS_KEY: 'hunter2' }
    expect(store({ NOZZLE_DATA_DIR: '/data' })).toEqual({
      kind: 'directory',
      directory: '/data/store',
    })
    expect(store({ NOZZLE_STORE: '/mnt/packs' })).toMatchObject({ directory: '/mnt/packs' })
    expect(store({ NOZZLE_STORE: 's3://bucket/a//b/', ...keys })).toMatchObject({
      kind: 's3',
      s3: {
        bucket: 'bucket',
        prefix: 'a/b/',
        endpoint: 'https://s3.us-east-1.amazonaws.com',
        isPathStyle: false,
      },
    })
    const NOZZLE_STORE_ENDPOINT = 'https://account.r2.cloudflarestorage.com/'
    expect(store({ NOZZLE_STORE: 's3://bucket', NOZZLE_STORE_ENDPOINT, ...keys })).toMatchObject({
      s3: { prefix: '', endpoint: 'https://account.r2.cloudflarestorage.com', isPathStyle: true },
    })
  })

  it.each([
    [{ NOZZLE_STORE: 's3://Not A Bucket' }, /NOZZLE_STORE: must be/],
    [{ NOZZLE_STORE: 'gs://bucket' }, /NOZZLE_STORE: must be/],
    [{ NOZZLE_STORE: 's3://bucket/../other' }, /NOZZLE_STORE: "\." and "\.\."/],
    [{ NOZZLE_STORE: 's3://bucket' }, /NOZZLE_STORE_ACCESS_KEY_ID: is needed/],
    [
      { NOZZLE_STORE: 's3://bucket', NOZZLE_STORE_ACCESS_KEY_ID: 'id' },
      /NOZZLE_STORE_SECRET_ACCESS_KEY: is needed/,
    ],
    [{ NOZZLE_STORE_ENDPOINT: 'store.example' }, /NOZZLE_STORE_ENDPOINT/],
  ])('refuses %j', (env, reason) => {
    expect(() => readConfig({ ...REQUIRED, ...env })).toThrowError(reason)
  })

  it('cannot be changed afterwards', () => {
    const config = readConfig(REQUIRED)
    expect(Object.isFrozen(config) && Object.isFrozen(config.scheduler)).toBe(true)
  })
})
