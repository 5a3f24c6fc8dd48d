import { describe, expect, it } from 'vitest'
import { locateDataDir } from '../lib/data-dir.ts'
import { type PoolSettings, toEdgeEnv, toHostEnv } from './child-env.ts'

const settings = (env: NodeJS.ProcessEnv): PoolSettings => ({
  env,
  dir: locateDataDir({ NOZZLE_DATA_DIR: '/data' }, '/'),
  secrets: { pool_secret: 'pool', key_pepper: 'pepper', operator_key: 'operator' },
  baseModel: { name: 'base', path: '/data/models/base.gguf' },
})

describe('toHostEnv', () => {
  it('passes settings on, and no database credential, key or stranger', () => {
    const env = {
      PATH: '/bin',
      NOZZLE_SLOTS: '32',
      NOZZLE_RANK_MAX: '',
      NOZZLE_DATABASE_URL: 'postgres://secret',
      NOZZLE_KEY_PEPPER: 'secret',
      NOZZLE_OPERATOR_KEY: 'secret',
      NOZZLE_API_KEY: 'secret',
      NOZZLE_PORT: '1',
      AWS_SECRET_ACCESS_KEY: 'secret',
    }
    expect(toHostEnv(settings(env), 'http://127.0.0.1:1')).toEqual({
      PATH: '/bin',
      NOZZLE_SLOTS: '32',
      NOZZLE_HOST_NAME: 'host',
      NOZZLE_POOL_SECRET: 'pool',
      NOZZLE_DATA_DIR: '/data',
      NOZZLE_EDGE_URL: 'http://127.0.0.1:1',
      NOZZLE_BASE_MODEL_PATH: '/data/models/base.gguf',
      NOZZLE_BASE_MODEL_NAME: 'base',
    })
  })
})

describe('toEdgeEnv', () => {
  it('keeps the database in the data directory unless told otherwise', () => {
    expect(toEdgeEnv(settings({}), null).NOZZLE_DATABASE_URL).toBe('pglite:/data/db')
    const env = { NOZZLE_DATABASE_URL: 'postgres://here' }
    expect(toEdgeEnv(settings(env), null).NOZZLE_DATABASE_URL).toBe('postgres://here')
  })

  it('knows nothing of the store, which hosts alone have a key to', () => {
    const env = { NOZZLE_STORE: 's3://packs', NOZZLE_STORE_SECRET_ACCESS_KEY: 'secret' }
    expect(toEdgeEnv(settings(env), null)).not.toHaveProperty('NOZZLE_STORE_SECRET_ACCESS_KEY')
    expect(toHostEnv(settings(env), 'http://127.0.0.1:1')).toMatchObject(env)
  })

  it('lets the port be any at first, and the same one after a restart', () => {
    const env = { NOZZLE_PORT: '0', NOZZLE_API_KEY: 'secret' }
    expect(toEdgeEnv(settings(env), null).NOZZLE_PORT).toBe('0')
    expect(toEdgeEnv(settings(env), 'http://127.0.0.1:4321').NOZZLE_PORT).toBe('4321')
    expect(toEdgeEnv(settings(env), null)).not.toHaveProperty('NOZZLE_API_KEY')
  })

  it('gives a further host a place of its own, the common store, and its share of the cores', () => {
    const env = { NOZZLE_HOST_ID: 'hst_first', NOZZLE_HOST_NAME: 'ten', NOZZLE_HOST_PORT: '9000' }
    const second = { name: 'host-2', port: 9001, restarts: 0 }
    const given = toHostEnv(settings(env), 'http://127.0.0.1:1', second, 2)
    const root = settings({}).dir.root
    expect(given).toMatchObject({
      NOZZLE_DATA_DIR: `${root}/hosts/host-2`,
      NOZZLE_STORE: `${root}/store`,
      NOZZLE_HOST_PORT: '9001',
      NOZZLE_THREADS: expect.stringMatching(/^[1-9]/),
    })
    expect(given).not.toHaveProperty('NOZZLE_HOST_ID')
    expect(given.NOZZLE_HOST_NAME).toBe('host-2')
    const first = toHostEnv(settings(env), 'http://127.0.0.1:1')
    expect(first).toMatchObject({ ...env, NOZZLE_DATA_DIR: root })
    expect(first).not.toHaveProperty('NOZZLE_THREADS')
  })
})
