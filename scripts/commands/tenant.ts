/** `nozzle tenant`: the customers of a pool. Needs the operator key. */
import type { z } from 'zod'
import { callEdge, toPath } from '../lib/api-client.ts'
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import { tenantList, tenantReply } from '../lib/edge-replies.ts'
import { DRY_RUN_FLAG, EDGE_FLAGS, locateEdge } from '../lib/edge-target.ts'
import { formatTable } from '../lib/output.ts'

const create: Command = {
  name: 'tenant create',
  summary: 'create a tenant',
  positionals: ['<name>'],
  flags: { ...EDGE_FLAGS, ...DRY_RUN_FLAG },
  details:
    'A name has 3 to 40 lower-case letters, digits and dashes; it is part of the endpoints.\n' +
    'A tenant serves nothing until it has a key and a model.',
  examples: ['nozzle tenant create acme', 'nozzle tenant create acme --json'],
  async run(call) {
    const [name = ''] = call.positionals
    const target = locateEdge(call)
    if (call.flags.isSet('dry-run')) {
      call.output.data({ dry_run: true, action: 'create_tenant', name }, `would create ${name}`)
      return
    }
    const tenant = await callEdge(
      target,
      { method: 'POST', path: '/v1/tenants', json: { name }, signal: call.signal },
      tenantReply,
    )
    call.output.data(tenant, `${tenant.name}  ${tenant.id}`)
    call.output.note(`Next: nozzle key create --tenant ${tenant.name}`)
  },
}

const list: Command = {
  name: 'tenant ls',
  summary: 'list tenants',
  positionals: [],
  flags: EDGE_FLAGS,
  examples: ['nozzle tenant ls'],
  async run(call) {
    const request = { method: 'GET', path: '/v1/tenants', signal: call.signal } as const
    const tenants = await callEdge(locateEdge(call), request, tenantList)
    const rows = tenants.data.map(toRow)
    call.output.data(tenants, formatTable(COLUMNS, rows))
  },
}

const show: Command = {
  name: 'tenant show',
  summary: 'show a tenant',
  positionals: ['<name>'],
  flags: EDGE_FLAGS,
  examples: ['nozzle tenant show acme'],
  async run(call) {
    const tenant = await callEdge(locateEdge(call), lookUp(call), tenantReply)
    call.output.data(tenant, formatTable(COLUMNS, [toRow(tenant)]))
  },
}

const set: Command = {
  name: 'tenant set',
  summary: 'change what share of a busy host a tenant gets',
  positionals: ['<name>'],
  flags: {
    weight: { type: 'string', value: 'n', help: 'its share as a multiple of others’, 1 to 1000' },
    ...EDGE_FLAGS,
    ...DRY_RUN_FLAG,
  },
  details:
    'Where a host has more to do than it can, a tenant of weight 3 gets three times the tokens of\n' +
    'one of weight 1; where it has not, weights change nothing. In force everywhere within 10 s.',
  examples: ['nozzle tenant set acme --weight 3'],
  async run(call) {
    const weight = call.flags.integer('weight', 1, 1000)
    if (weight === undefined) throw new CliError('usage', '--weight is needed')
    const target = locateEdge(call)
    const [name = ''] = call.positionals
    if (call.flags.isSet('dry-run')) {
      await callEdge(target, lookUp(call), tenantReply)
      const plan = { dry_run: true, action: 'set_tenant', name, weight }
      call.output.data(plan, `would give ${name} the weight ${weight}`)
      return
    }
    const tenant = await callEdge(
      target,
      { method: 'PATCH', path: pathOf(name), json: { weight }, signal: call.signal },
      tenantReply,
    )
    call.output.data(tenant, `${tenant.name}  weight ${tenant.weight}`)
  },
}

const COLUMNS = ['NAME', 'ID', 'WEIGHT', 'CREATED']

function toRow({ name, id, weight, created_at }: z.infer<typeof tenantReply>): string[] {
  return [name, id, String(weight), created_at]
}

function lookUp(call: CommandCall) {
  const [name = ''] = call.positionals
  return { method: 'GET', path: pathOf(name), signal: call.signal } as const
}

function pathOf(name: string): string {
  return toPath('v1', 'tenants', name)
}

export const tenantCommands: readonly Command[] = [create, list, show, set]
