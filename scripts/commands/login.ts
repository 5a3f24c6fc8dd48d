/** `nozzle login | logout | whoami`: which edge this user works with, as whom. */
import type { z } from 'zod'
import { callEdge } from '../lib/api-client.ts'
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import { caller } from '../lib/edge-replies.ts'
import {
  DEMO_TENANT,
  DRY_RUN_FLAG,
  EDGE_FLAGS,
  locateEdge,
  TENANT_FLAG,
} from '../lib/edge-target.ts'
import {
  checkProfileName,
  noSuchProfile,
  type Profile,
  readProfiles,
  writeProfiles,
} from '../lib/profiles.ts'

const DEFAULT_PROFILE = 'default'

const login: Command = {
  name: 'login',
  summary: 'keep an edge and a key as a profile; later commands use it',
  positionals: [],
  flags: {
    profile: { type: 'string', value: 'name', help: `its name (default: ${DEFAULT_PROFILE})` },
    'edge-url': { type: 'string', value: 'url', help: 'edge (NOZZLE_EDGE_URL; else asked for)' },
    'api-key': {
      type: 'string',
      value: 'key',
      help: 'key (NOZZLE_API_KEY, stdin, else asked for; as a flag others here see it)',
    },
    tenant: { type: 'string', value: 'name', help: 'tenant, for the operator (NOZZLE_TENANT)' },
    ...DRY_RUN_FLAG,
  },
  details:
    'Asks the edge whose key it is before it keeps anything, in a file that you alone can read.\n' +
    '`nozzle profile use` goes from one to another, `nozzle logout` forgets one.\n' +
    '`nozzle help environment`: what comes before a profile.',
  examples: [
    'nozzle login',
    'nozzle login --edge-url https://edge.example.com < acme.key',
    'nozzle login --profile staging --edge-url https://staging.example.com',
  ],
  async run(call) {
    const { env, flags, output } = call
    const name = checkProfileName(flags.text('profile') || env.NOZZLE_PROFILE || DEFAULT_PROFILE)
    const edgeUrl = await readEdgeUrl(call)
    const apiKey = await readKey(call)
    const who = await askWho(call, { edgeUrl, apiKey })
    const tenant = flags.text('tenant') || env.NOZZLE_TENANT || null
    if (tenant !== null && who.tenant !== null && tenant !== who.tenant.name) {
      const fix = 'Leave out --tenant (NOZZLE_TENANT): the key says it.'
      throw new CliError('refused', `the key is of tenant ${who.tenant.name}, not ${tenant}`, fix)
    }
    const profile: Profile = { edge_url: edgeUrl, api_key: apiKey, tenant }
    const facts = { profile: name, edge_url: edgeUrl, ...who }
    if (flags.isSet('dry-run')) {
      output.data({ dry_run: true, ...facts }, `would keep ${describe(facts)}`)
      return
    }
    const known = readProfiles(env)
    const profiles = { ...known.profiles, [name]: profile }
    const path = writeProfiles(env, { current: name, profiles })
    output.data({ ...facts, path }, `logged in: ${describe(facts)}`)
    output.note(`kept in ${path}`)
  },
}

const logout: Command = {
  name: 'logout',
  summary: 'forget a profile; its key stays valid',
  positionals: [],
  flags: {
    profile: { type: 'string', value: 'name', help: 'which (default: the current one)' },
    ...DRY_RUN_FLAG,
  },
  details: 'The key itself is ended by `nozzle key revoke`.',
  examples: ['nozzle logout', 'nozzle logout --profile staging'],
  async run({ env, flags, output }) {
    const { current, profiles } = readProfiles(env)
    const name = flags.text('profile') || env.NOZZLE_PROFILE || current
    if (name === null) throw new CliError('not_found', 'no profile is current')
    const { [name]: found, ...others } = profiles
    if (found === undefined) throw noSuchProfile(name, profiles)
    const facts = { profile: name, edge_url: found.edge_url }
    if (flags.isSet('dry-run')) {
      output.data({ dry_run: true, ...facts }, `would forget ${name}`)
      return
    }
    writeProfiles(env, { current: current === name ? null : current, profiles: others })
    output.data(facts, `forgot ${name}`)
  },
}

const whoami: Command = {
  name: 'whoami',
  summary: 'which edge, profile, tenant and key a command would use',
  positionals: [],
  flags: { ...TENANT_FLAG, ...EDGE_FLAGS },
  examples: ['nozzle whoami', 'nozzle whoami --profile staging --json'],
  async run(call) {
    const target = locateEdge(call)
    const who = await askWho(call, target)
    const facts = { profile: target.profile, edge_url: target.edgeUrl, ...who }
    const scopes = who.scopes === null ? '' : ` (${who.scopes.join(', ')})`
    const fallback = target.keySource === 'given' ? '(any: name one)' : DEMO_TENANT
    const lines = [
      `edge     ${target.edgeUrl}`,
      `profile  ${target.profile ?? '(none)'}`,
      `key      ${who.key_id ?? 'the operator’s'}${scopes}`,
      `tenant   ${target.tenant ?? who.tenant?.name ?? fallback}`,
    ]
    call.output.data(facts, lines.join('\n'))
  },
}

function askWho(
  { signal }: CommandCall,
  target: { readonly edgeUrl: string; readonly apiKey: string },
): Promise<z.infer<typeof caller>> {
  return callEdge(target, { method: 'GET', path: '/v1/whoami', signal }, caller)
}

async function readEdgeUrl({ env, flags, ask, signal }: CommandCall): Promise<string> {
  const named = flags.text('edge-url') || env.NOZZLE_EDGE_URL
  const url = named ?? (await ask?.({ text: 'URL of the edge: ' }, signal))
  if (!url) throw new CliError('usage', '--edge-url is needed (or NOZZLE_EDGE_URL)')
  if (URL.canParse(url) && /^https?:/.test(url)) return new URL(url).href.replace(/\/+$/, '')
  throw new CliError('usage', `the edge URL "${url}" is not an http(s) URL`)
}

async function readKey({ env, flags, ask, readStdin, signal }: CommandCall): Promise<string> {
  const given = flags.text('api-key') || env.NOZZLE_API_KEY
  if (given) return given
  const piped = (await readStdin?.())?.trim()
  const key = piped || (await ask?.({ text: 'API key (not shown): ', isHidden: true }, signal))
  if (key) return key
  throw new CliError('usage', 'an API key is needed: NOZZLE_API_KEY, --api-key, or on stdin')
}

function describe(facts: { profile: string; edge_url: string } & z.infer<typeof caller>): string {
  const who = facts.tenant === null ? 'the operator' : `tenant ${facts.tenant.name}`
  return `${facts.profile}, ${facts.edge_url} as ${who}`
}

export const loginCommands: readonly Command[] = [login, logout, whoami]
