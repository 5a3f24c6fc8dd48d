/**
 * Which edge a command talks to, with which key, in which tenant's name: flags, environment, files.
 */
import { type ApiTarget, callEdge } from './api-client.ts'
import type { FlagSpecs } from './argv.ts'
import { CliError } from './cli-error.ts'
import type { CommandCall } from './command.ts'
import { locateDataDir, readDemoKey, readRunning, readSecrets } from './data-dir.ts'
import { caller } from './edge-replies.ts'

export const EDGE_FLAGS: FlagSpecs = {
  'edge-url': {
    type: 'string',
    value: 'url',
    help: 'edge to talk to (NOZZLE_EDGE_URL; default: the pool that runs here)',
  },
  'api-key': {
    type: 'string',
    value: 'key',
    help: 'API key; NOZZLE_API_KEY keeps it out of the process list (default: operator key here)',
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

export interface EdgeTarget extends ApiTarget {
  /** `given`: by flag or environment, so its tenant is not known here. */
  readonly keySource: 'given' | 'operator' | 'demo'
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
  const edgeUrl = flags.text('edge-url') ?? env.NOZZLE_EDGE_URL ?? readRunning(dir)?.edge_url
  if (!edgeUrl) {
    throw new CliError(
      'unavailable',
      `no pool runs from ${dir.root}`,
      'Start one with `nozzle up`, or name its NOZZLE_DATA_DIR, or an edge with --edge-url.',
    )
  }
  if (!URL.canParse(edgeUrl) || !/^https?:/.test(edgeUrl)) {
    throw new CliError('usage', `the edge URL "${edgeUrl}" is not an http(s) URL`)
  }
  const given = flags.text('api-key') ?? env.NOZZLE_API_KEY
  if (given) return { edgeUrl, apiKey: given, keySource: 'given' }
  const demoKey = preferred === 'demo' ? readDemoKey(dir) : null
  if (demoKey) return { edgeUrl, apiKey: demoKey, keySource: 'demo' }
  const operatorKey = readSecrets(dir)?.operator_key
  if (operatorKey) return { edgeUrl, apiKey: operatorKey, keySource: 'operator' }
  throw new CliError('unauthorized', 'no API key', 'Set NOZZLE_API_KEY, or pass --api-key.')
}

/** The tenant that the command is about: named, or the one whose key was given. */
export async function resolveTenant(call: CommandCall, target: EdgeTarget): Promise<string> {
  const named = call.flags.text('tenant') ?? call.env.NOZZLE_TENANT
  if (named) return named
  if (target.keySource !== 'given') return DEMO_TENANT
  const request = { method: 'GET', path: '/v1/whoami', signal: call.signal } as const
  const { tenant } = await callEdge(target, request, caller)
  if (tenant !== null) return tenant.name
  throw new CliError('usage', 'name the tenant with --tenant or NOZZLE_TENANT')
}
