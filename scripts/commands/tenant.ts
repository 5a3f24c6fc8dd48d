/** `nozzle tenant`: the customers of a pool. Needs the operator key. */
import { callEdge } from '../lib/api-client.ts'
import type { Command } from '../lib/command.ts'
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
    const rows = tenants.data.map(({ name, id, created_at }) => [name, id, created_at])
    call.output.data(tenants, formatTable(['NAME', 'ID', 'CREATED'], rows))
  },
}

export const tenantCommands: readonly Command[] = [create, list]
