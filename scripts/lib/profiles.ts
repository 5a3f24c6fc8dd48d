/**
 * Profiles: edges that this user works with, by name, each with a key and a tenant, in one file of
 * the user's configuration directory. Invariant: the file is readable by its owner alone, and no
 * key of it is printed.
 */
import { mkdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { CliError } from './cli-error.ts'
import { readJsonFile, writePrivateFile } from './data-dir.ts'

const PROFILE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$/
/** Not a profile: the pool that runs from the data directory. */
export const HERE = 'here'

const profile = z.strictObject({
  edge_url: z.url({ protocol: /^https?$/ }),
  api_key: z.string().min(1),
  /** null = that of the key. */
  tenant: z.string().min(1).nullable(),
})
export type Profile = z.infer<typeof profile>

const profilesFile = z.strictObject({
  /** Taken when none is named; null = the pool here. */
  current: z.string().nullable(),
  profiles: z.record(z.string().regex(PROFILE_NAME), profile),
})
export type Profiles = z.infer<typeof profilesFile>

export interface NamedProfile extends Profile {
  readonly name: string
  /** By flag or environment: it was asked for, not just left over from `nozzle login`. */
  readonly isAskedFor: boolean
}

/** null where this environment has no place for it. */
export function profilesPath(env: NodeJS.ProcessEnv): string | null {
  if (env.NOZZLE_CONFIG) return env.NOZZLE_CONFIG
  const home = env.HOME ? join(env.HOME, '.config') : undefined
  const base = env.XDG_CONFIG_HOME || env.APPDATA || home
  return base ? join(base, 'nozzle', 'config.json') : null
}

/** None before the first `nozzle login`. Throws `refused` when the file is damaged. */
export function readProfiles(env: NodeJS.ProcessEnv): Profiles {
  const path = profilesPath(env)
  const known = path === null ? null : readJsonFile(path, profilesFile)
  return known ?? { current: null, profiles: {} }
}

/** Throws `refused` where there is no place for it. */
export function writeProfiles(env: NodeJS.ProcessEnv, profiles: Profiles): string {
  const path = profilesPath(env)
  if (path === null) {
    throw new CliError('refused', 'no configuration directory', 'Set HOME or NOZZLE_CONFIG.')
  }
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  writePrivateFile(path, `${JSON.stringify(profiles, null, 2)}\n`)
  return path
}

/** Throws a `usage` error for what cannot be a profile's name. */
export function checkProfileName(name: string): string {
  if (PROFILE_NAME.test(name) && name !== HERE) return name
  throw new CliError(
    'usage',
    `"${name}" cannot be a profile's name`,
    `Up to 60 letters, digits, dots, dashes and underscores; "${HERE}" is the pool here.`,
  )
}

/**
 * The profile that counts: asked for by name, else the current one unless NOZZLE_DATA_DIR names a
 * pool. null = none. Throws `not_found` for a name that is none.
 */
export function chooseProfile(
  env: NodeJS.ProcessEnv,
  flag: string | undefined,
): NamedProfile | null {
  const askedFor = flag || env.NOZZLE_PROFILE || null
  if (askedFor === HERE) return null
  if (askedFor === null && env.NOZZLE_DATA_DIR) return null
  const { current, profiles } = readProfiles(env)
  const name = askedFor ?? current
  if (name === null) return null
  const found = profiles[name]
  if (found !== undefined) return { ...found, name, isAskedFor: askedFor !== null }
  throw noSuchProfile(name, profiles)
}

export function noSuchProfile(name: string, profiles: Profiles['profiles']): CliError {
  const names = [...Object.keys(profiles), HERE].join(', ')
  const fix = `One of ${names}; \`nozzle login --profile ${name}\` makes it.`
  return new CliError('not_found', `there is no profile "${name}"`, fix)
}

/** Others on this machine can read it: it was copied, or its mode changed. */
export function isReadByOthers(path: string): boolean {
  if (process.platform === 'win32') return false
  return (statSync(path, { throwIfNoEntry: false })?.mode ?? 0) % 0o100 !== 0
}
