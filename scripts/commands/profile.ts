/** `nozzle profile`: the edges that `nozzle login` keeps, and which one counts. */
import type { Command } from '../lib/command.ts'
import { DRY_RUN_FLAG } from '../lib/edge-target.ts'
import { formatTable } from '../lib/output.ts'
import { HERE, noSuchProfile, profilesPath, readProfiles, writeProfiles } from '../lib/profiles.ts'

const list: Command = {
  name: 'profile ls',
  summary: 'list the profiles, without their keys',
  positionals: [],
  flags: {},
  examples: ['nozzle profile ls', "nozzle profile ls --json | jq -r '.data[].name'"],
  async run({ env, output }) {
    const { current, profiles } = readProfiles(env)
    const data = Object.entries(profiles).map(([name, { edge_url, tenant, api_key }]) => {
      const key_start = `${api_key.slice(0, 7)}…`
      return { name, is_current: name === current, edge_url, tenant, key_start }
    })
    const rows = data.map(({ name, is_current, edge_url, tenant, key_start }) => {
      return [is_current ? '*' : '', name, edge_url, tenant ?? '', key_start]
    })
    const text = formatTable(['', 'NAME', 'EDGE', 'TENANT', 'KEY'], rows)
    output.data({ current, path: profilesPath(env), data }, text)
  },
}

const use: Command = {
  name: 'profile use',
  summary: 'let later commands use a profile',
  positionals: ['<name>'],
  flags: DRY_RUN_FLAG,
  details: `\`${HERE}\` is none of them: the pool that runs from the data directory.`,
  examples: ['nozzle profile use staging', `nozzle profile use ${HERE}`],
  async run({ env, flags, output, positionals }) {
    const [name = ''] = positionals
    const { profiles } = readProfiles(env)
    if (name !== HERE && profiles[name] === undefined) throw noSuchProfile(name, profiles)
    const isDryRun = flags.isSet('dry-run')
    if (!isDryRun) writeProfiles(env, { current: name === HERE ? null : name, profiles })
    const edge_url = profiles[name]?.edge_url ?? null
    const text = `${isDryRun ? 'would use' : 'using'} ${edge_url ?? 'the pool here'}`
    output.data({ ...(isDryRun && { dry_run: true }), current: name, edge_url }, text)
  },
}

export const profileCommands: readonly Command[] = [list, use]
