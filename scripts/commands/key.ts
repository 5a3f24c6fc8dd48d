/** `nozzle key`: credentials of a tenant. A secret is printed once, at creation. */
import { callEdge, toPath } from '../lib/api-client.ts'
import { CliError } from '../lib/cli-error.ts'
import type { Command } from '../lib/command.ts'
import { createdKey, keyList, revokedKey } from '../lib/edge-replies.ts'
import {
  DRY_RUN_FLAG,
  EDGE_FLAGS,
  locateEdge,
  resolveTenant,
  TENANT_FLAG,
} from '../lib/edge-target.ts'
import { formatTable } from '../lib/output.ts'

const create: Command = {
  name: 'key create',
  summary: 'create an API key; its secret is shown once',
  positionals: [],
  flags: {
    ...TENANT_FLAG,
    name: { type: 'string', value: 'text', help: 'label, to tell keys apart' },
    scopes: { type: 'string', value: 'list', help: 'generate,deploy (default: both)' },
    ...EDGE_FLAGS,
    ...DRY_RUN_FLAG,
  },
  details: 'stdout holds the key alone, so that it can go to a file or a secret store.',
  examples: [
    'nozzle key create --tenant acme --name ci --scopes deploy > acme-ci.key',
    'nozzle key create --tenant acme --json',
  ],
  async run(call) {
    const target = locateEdge(call)
    const tenant = await resolveTenant(call, target)
    const name = call.flags.text('name')
    const scopes = call.flags
      .text('scopes')
      ?.split(',')
      .map((scope) => scope.trim())
    const wanted = { ...(name && { name }), ...(scopes && { scopes }) }
    if (call.flags.isSet('dry-run')) {
      const plan = { dry_run: true, action: 'create_key', tenant, ...wanted }
      call.output.data(plan, `would create a key of ${tenant}`)
      return
    }
    const path = toPath('v1', 'tenants', tenant, 'keys')
    const request = { method: 'POST', path, json: wanted, signal: call.signal } as const
    const created = await callEdge(target, request, createdKey)
    call.output.data(created, created.key)
    call.output.note(`${created.id}: store the key now, it is not shown again.`)
  },
}

const list: Command = {
  name: 'key ls',
  summary: 'list API keys, without their secrets',
  positionals: [],
  flags: { ...TENANT_FLAG, ...EDGE_FLAGS },
  examples: ['nozzle key ls --tenant acme'],
  async run(call) {
    const target = locateEdge(call)
    const path = toPath('v1', 'tenants', await resolveTenant(call, target), 'keys')
    const keys = await callEdge(target, { method: 'GET', path, signal: call.signal }, keyList)
    const rows = keys.data.map((key) => [
      key.id,
      `${key.start}…`,
      key.name ?? '',
      key.scopes.join(','),
      key.created_at,
      key.revoked_at ? `revoked ${key.revoked_at}` : 'active',
    ])
    const columns = ['ID', 'KEY', 'NAME', 'SCOPES', 'CREATED', 'STATUS']
    call.output.data(keys, formatTable(columns, rows))
  },
}

const revoke: Command = {
  name: 'key revoke',
  summary: 'revoke an API key; everywhere within 10 s',
  positionals: ['<key-id>'],
  flags: { ...TENANT_FLAG, ...EDGE_FLAGS, ...DRY_RUN_FLAG },
  examples: ['nozzle key revoke key_0a1B2c3D4e5F --tenant acme'],
  async run(call) {
    const [id = ''] = call.positionals
    const target = locateEdge(call)
    const tenant = await resolveTenant(call, target)
    const path = toPath('v1', 'tenants', tenant, 'keys')
    if (call.flags.isSet('dry-run')) {
      const keys = await callEdge(target, { method: 'GET', path, signal: call.signal }, keyList)
      if (!keys.data.some((key) => key.id === id)) {
        throw new CliError('not_found', `${tenant} has no key ${id}`, 'See `nozzle key ls`.')
      }
      call.output.data({ dry_run: true, action: 'revoke_key', tenant, id }, `would revoke ${id}`)
      return
    }
    const request = { method: 'DELETE', path: path + toPath(id), signal: call.signal } as const
    const revoked = await callEdge(target, request, revokedKey)
    call.output.data(revoked, `${revoked.id}  revoked ${revoked.revoked_at}`)
  },
}

export const keyCommands: readonly Command[] = [create, list, revoke]
