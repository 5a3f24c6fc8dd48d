/**
 * `nozzle model split | promote | rollback`: which versions of a model serve. The edge decides what
 * a change comes to, with --dry-run too; all edges follow within seconds, and a running stream ends
 * on the version it began with.
 */
import { callEdge, toPath } from '../lib/api-client.ts'
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import { type ChangedLanes, changedLanes } from '../lib/edge-replies.ts'
import {
  DRY_RUN_FLAG,
  EDGE_FLAGS,
  locateEdge,
  resolveTenant,
  TENANT_FLAG,
} from '../lib/edge-target.ts'

const FLAGS = { ...TENANT_FLAG, ...EDGE_FLAGS, ...DRY_RUN_FLAG }

const split: Command = {
  name: 'model split',
  summary: 'share requests between a main version and a canary',
  positionals: ['<model[@version=percent]>', '[model@version=percent]'],
  flags: {
    'canary-weight': {
      type: 'string',
      value: 'percent',
      help: 'new share of the canary that runs, 0 to 100',
    },
    ...FLAGS,
  },
  details:
    'Two versions share requests in percent, exactly in the long run. Requests that name the same\n' +
    'prompt_cache_key, safety_identifier, user or Idempotency-Key get the same version; others are\n' +
    'drawn one by one.',
  examples: [
    'nozzle model split ticket-triage --canary-weight 25',
    'nozzle model split ticket-triage@3=90 ticket-triage@4=10',
    'nozzle model split ticket-triage@4=100 --dry-run',
  ],
  async run(call) {
    const weight = call.flags.integer('canary-weight', 0, 100)
    const [first = '', second] = call.positionals
    if (weight !== undefined) {
      if (first.includes('@') || second !== undefined) throw bothWays()
      await change(call, first, 'PATCH', 'deployment', { canary_weight: weight })
      return
    }
    const shares = [first, ...(second === undefined ? [] : [second])].map(parseShare)
    const [model = ''] = shares.map(({ model }) => model)
    if (shares.some((share) => share.model !== model)) {
      throw new CliError('usage', 'both versions must be of one model')
    }
    const versions = shares.map(({ version, weight }) => ({ version, weight }))
    await change(call, model, 'PATCH', 'deployment', { versions })
  },
}

const promote: Command = {
  name: 'model promote',
  summary: 'make the canary the main version',
  positionals: ['<model>'],
  flags: FLAGS,
  examples: ['nozzle model promote ticket-triage'],
  async run(call) {
    await change(call, call.positionals[0] ?? '', 'POST', 'promote', {})
  },
}

const rollback: Command = {
  name: 'model rollback',
  summary: 'go back to an earlier version; a canary ends',
  positionals: ['<model>'],
  flags: {
    to: {
      type: 'string',
      value: 'version',
      help: 'default: the one that the main version replaced',
    },
    ...FLAGS,
  },
  details: 'Again, it goes one further back. Nothing is lost: --to also goes forward.',
  examples: ['nozzle model rollback ticket-triage', 'nozzle model rollback ticket-triage --to 2'],
  async run(call) {
    const to = call.flags.integer('to', 1, 999_999_999) ?? null
    await change(call, call.positionals[0] ?? '', 'POST', 'rollback', { to })
  },
}

async function change(
  call: CommandCall,
  model: string,
  method: 'POST' | 'PATCH',
  verb: string,
  json: object,
): Promise<void> {
  const target = locateEdge(call)
  const tenant = await resolveTenant(call, target)
  const query = call.flags.isSet('dry-run') ? '?dry_run=true' : ''
  const path = toPath('v1', 'tenants', tenant, 'models', model, verb) + query
  const lanes = await callEdge(target, { method, path, json, signal: call.signal }, changedLanes)
  const text = `${tenant}/${lanes.name}: ${describeLanes(lanes)}`
  call.output.data(lanes, lanes.dry_run ? `would be ${text}` : text)
}

function describeLanes({ main, canary }: ChangedLanes): string {
  if (canary === null) return `version ${main} serves all requests`
  return `version ${main} serves ${100 - canary.weight} %, canary ${canary.version} ${canary.weight} %`
}

function parseShare(text: string): { model: string; version: number; weight: number } {
  const [, model, version, weight] = /^([^@=]+)@([1-9]\d{0,8})=(\d{1,3})$/.exec(text) ?? []
  if (model !== undefined) return { model, version: Number(version), weight: Number(weight) }
  throw new CliError(
    'usage',
    `"${text}" is not <model>@<version>=<percent>`,
    'Name two, such as m@3=90 m@4=10, or a model and --canary-weight.',
  )
}

function bothWays(): CliError {
  return new CliError('usage', '--canary-weight is for a model without versions')
}

export const laneCommands: readonly Command[] = [split, promote, rollback]
