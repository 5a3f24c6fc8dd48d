/**
 * The secrets of a pool that is run by hand, made once: one environment file a service, so that a
 * host gets neither the database's credential nor what hashes API keys.
 */
import { randomBytes } from 'node:crypto'
import { createApiKey } from '../../edge/auth/api-key.ts'
import { type EnvValue, formatEnvFile } from './env-file.ts'
import type { ReleaseFile } from './setting.ts'

const HEAD = [
  'Secrets. Back them up; never commit them, and never make them anew: keys and grants end.',
]

const draw = (): string => randomBytes(32).toString('base64url')

/** @param env what exists already: NOZZLE_DATABASE_URL, the bucket's keys. */
export async function createReleaseSecrets(env: NodeJS.ProcessEnv): Promise<ReleaseFile[]> {
  const poolSecret: EnvValue = {
    name: 'NOZZLE_POOL_SECRET',
    value: draw(),
    why: 'Signs every call between edges and hosts; the same for all of them.',
  }
  const database = toDatabase(env.NOZZLE_DATABASE_URL)
  const bucket = toBucketKey(env)
  return [
    file('nozzle-edge', [
      poolSecret,
      {
        name: 'NOZZLE_KEY_PEPPER',
        value: draw(),
        why: 'Hashes API keys; without it all are lost.',
      },
      {
        name: 'NOZZLE_OPERATOR_KEY',
        value: await createApiKey(),
        why: 'May do everything: NOZZLE_API_KEY of the operator.',
      },
      database.url,
    ]),
    file('nozzle-host', [poolSecret, ...bucket.ofHost]),
    ...(database.own === null ? [] : [file('nozzle-database', [database.own])]),
    ...(bucket.ofStore === null ? [] : [file('nozzle-store', bucket.ofStore)]),
  ]
}

/** The given one, or that of the PostgreSQL in compose.edge.yaml. */
function toDatabase(given: string | undefined): { url: EnvValue; own: EnvValue | null } {
  const name = 'NOZZLE_DATABASE_URL'
  if (given) return { url: { name, value: given, why: 'The record of all edges.' }, own: null }
  const password = draw()
  return {
    url: {
      name,
      value: `postgres://nozzle:${password}@database:5432/nozzle`,
      why: 'The record of all edges: the PostgreSQL of compose.edge.yaml.',
    },
    own: { name: 'POSTGRES_PASSWORD', value: password, why: "Of the first start's user." },
  }
}

/** The given one, or that of the store in compose.host.yaml. */
function toBucketKey(env: NodeJS.ProcessEnv): { ofHost: EnvValue[]; ofStore: EnvValue[] | null } {
  const { NOZZLE_STORE_ACCESS_KEY_ID: givenId, NOZZLE_STORE_SECRET_ACCESS_KEY: givenSecret } = env
  const isGiven = Boolean(givenId && givenSecret)
  const id = isGiven ? (givenId ?? '') : randomBytes(10).toString('hex')
  const secret = isGiven ? (givenSecret ?? '') : draw()
  const pair = (names: readonly [string, string]): EnvValue[] => [
    { name: names[0], value: id, why: "The bucket's key." },
    { name: names[1], value: secret, why: 'Its secret.' },
  ]
  return {
    ofHost: pair(['NOZZLE_STORE_ACCESS_KEY_ID', 'NOZZLE_STORE_SECRET_ACCESS_KEY']),
    ofStore: isGiven ? null : pair(['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY']),
  }
}

function file(service: string, values: readonly EnvValue[]): ReleaseFile {
  return { path: `${service}.secrets.env`, text: formatEnvFile(HEAD, values) }
}
