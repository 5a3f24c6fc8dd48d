/**
 * Which edge a command talks to, with which key, in which tenant's name: flags, environment, the
 * profile, files of the pool here, in that order.
 */
import { type ApiTarget, callEdge } from './api-client.ts'
import type { FlagSpecs } from './argv.ts'
import { CliError } from './cli-error.ts'
import type { CommandCall } from './command.ts'
import { type DataDir, locateDataDir, readDemoKey, readRunning, readSecrets } from './data-dir.ts'
import { caller } from './edge-replies.ts'
import { chooseProfile, HERE, type NamedProfile } from './profiles.ts'

export const EDGE_FLAGS: FlagSpecs = {
  'edge-url': {
    type: 'string',
    value: 'url',
    help: 'edge to talk to (NOZZLE_EDGE_URL; default: of the profile, else the pool here)',
  },
  'api-key': {
    type: 'string',
    value: 'key',
    help: 'API key; NOZZLE_API_KEY keeps it out of the process list (default: likewise)',
  },
  profile: {
    type: 'string',
    value: 'name',
    help: `of \`nozzle login\` (NOZZLE_PROFILE); ${HERE} = the pool here`,
  },
}

export const TENANT_FLAG: FlagSpecs = {
  tenant: {
    type: 'string',
    value: 'name',
    help: 'tenant (NOZZLE_TENANT; default: that of the key; demo, with the pool here)',
  },
}

export const DRY_RUN_FLAG: FlagSpecs = {
  'dry-run': { type: 'boolean', help: 'say what would be done, change nothing' },
}

export const DEMO_TENANT = 'demo'

const GIVE_KEY = 'Set NOZZLE_API_KEY, pass --api-key, or keep one with `nozzle login`.'

export interface EdgeTarget extends ApiTarget {
  /** `given`: by flag or environment, so its tenant is not known here. */
  readonly keySource: 'given' | 'operator' | 'demo'
  /** By flag, environment or profile; null = nobody named one. */
  readonly tenant: string | null
  /** Whose edge it is; null = none's. */
  readonly profile: string | null
}

/**
 * @param preferred which key of the data directory serves when none is given.
 * Throws `unavailable` when no pool runs here and none is named.
 */
export function locateEdge(
  call: CommandCall,
  preferred: 'operator' | 'demo' = 'operator',
): EdgeTarget {
  const { env, flags, projectRoot } = call
  const dir = locateDataDir(env, projectRoot)
  const named = flags.text('edge-url') || env.NOZZLE_EDGE_URL
  const running = readRunning(dir)
  const profile = profileFor(named, chooseProfile(env, flags.text('profile')))
  if (profile && !profile.isAskedFor && running && !named) {
    const fix = `\`--profile ${HERE}\` or \`nozzle profile use ${HERE}\` is the pool here`
    call.output.note(`profile ${profile.name}, ${profile.edge_url}; ${fix}`)
  }
  const edgeUrl = requireHttp(named || profile?.edge_url || running?.edge_url, dir)
  const tenant = flags.text('tenant') || env.NOZZLE_TENANT || profile?.tenant || null
  const facts = { edgeUrl, tenant, profile: profile?.name ?? null }
  const given = flags.text('api-key') || env.NOZZLE_API_KEY || profile?.api_key
  if (given) return { ...facts, apiKey: given, keySource: 'given' }
  requireHere(edgeUrl, running?.edge_url)
  const demoKey = preferred === 'demo' ? readDemoKey(dir) : null
  if (demoKey) return { ...facts, apiKey: demoKey, keySource: 'demo' }
  const operatorKey = readSecrets(dir)?.operator_key
  if (operatorKey) return { ...facts, apiKey: operatorKey, keySource: 'operator' }
  throw new CliError('unauthorized', 'no API key', GIVE_KEY)
}

/** Keys in the data directory are the pool's here: an edge elsewhere must not be told them. */
function requireHere(edgeUrl: string, runningUrl: string | undefined): void {
  const { origin, hostname } = new URL(edgeUrl)
  if (isLoopback(hostname) || (runningUrl && origin === new URL(runningUrl).origin)) return
  throw new CliError('unauthorized', `no API key for ${origin}`, GIVE_KEY)
}

function isLoopback(hostname: string): boolean {
  return /^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname)
}

/** A profile's key and tenant are for its own edge: another that is named has nothing of it. */
function profileFor(
  edgeUrl: string | undefined,
  profile: NamedProfile | null,
): NamedProfile | null {
  if (profile === null || !edgeUrl || !URL.canParse(edgeUrl)) return profile
  const isIts = new URL(edgeUrl).origin === new URL(profile.edge_url).origin
  if (isIts || !profile.isAskedFor) return isIts ? profile : null
  throw new CliError(
    'usage',
    `profile ${profile.name} is for ${profile.edge_url}, not for ${edgeUrl}`,
    'Leave out --profile or --edge-url (NOZZLE_PROFILE, NOZZLE_EDGE_URL).',
  )
}

function requireHttp(edgeUrl: string | undefined, dir: DataDir): string {
  if (!edgeUrl) {
    throw new CliError(
      'unavailable',
      `no pool runs from ${dir.root}`,
      'Start one with `nozzle up`, or name its NOZZLE_DATA_DIR, or an edge with --edge-url.',
    )
  }
  if (URL.canParse(edgeUrl) && /^https?:/.test(edgeUrl)) return edgeUrl
  throw new CliError('usage', `the edge URL "${edgeUrl}" is not an http(s) URL`)
}

/** The tenant that the command is about: named, or the one whose key was given. */
export async function resolveTenant(call: CommandCall, target: EdgeTarget): Promise<string> {
  if (target.tenant !== null) return target.tenant
  if (target.keySource !== 'given') return DEMO_TENANT
  const request = { method: 'GET', path: '/v1/whoami', signal: call.signal } as const
  const { tenant } = await callEdge(target, request, caller)
  if (tenant !== null) return tenant.name
  throw new CliError('usage', 'name the tenant with --tenant or NOZZLE_TENANT')
}
