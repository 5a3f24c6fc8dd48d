/** `nozzle model`: the fine-tuned models of a tenant and their adapter versions. */
import { callEdge, toPath } from '../lib/api-client.ts'
import type { Command } from '../lib/command.ts'
import { type ModelRow, modelDetail, modelList, removedModel } from '../lib/edge-replies.ts'
import {
  DRY_RUN_FLAG,
  EDGE_FLAGS,
  locateEdge,
  resolveTenant,
  TENANT_FLAG,
} from '../lib/edge-target.ts'
import { formatBytes, formatTable } from '../lib/output.ts'
import { laneCommands } from './model-lanes.ts'

const list: Command = {
  name: 'model ls',
  summary: 'list the models of a tenant',
  positionals: [],
  flags: { ...TENANT_FLAG, ...EDGE_FLAGS },
  examples: ['nozzle model ls', 'nozzle model ls --tenant acme --json'],
  async run(call) {
    const target = locateEdge(call)
    const path = toPath('v1', 'tenants', await resolveTenant(call, target), 'models')
    const models = await callEdge(target, { method: 'GET', path, signal: call.signal }, modelList)
    const rows = models.data.map((model) => [
      model.name,
      formatLanes(model),
      model.rank,
      formatBytes(model.pack_bytes),
      model.base_model,
      model.endpoint,
    ])
    const columns = ['NAME', 'VERSION', 'RANK', 'SIZE', 'BASE MODEL', 'ENDPOINT']
    call.output.data(models, formatTable(columns, rows))
  },
}

const show: Command = {
  name: 'model show',
  summary: 'show one model and its versions',
  positionals: ['<model>'],
  flags: { ...TENANT_FLAG, ...EDGE_FLAGS },
  examples: ['nozzle model show ticket-triage'],
  async run(call) {
    const [name = ''] = call.positionals
    const target = locateEdge(call)
    const path = toPath('v1', 'tenants', await resolveTenant(call, target), 'models', name)
    const model = await callEdge(target, { method: 'GET', path, signal: call.signal }, modelDetail)
    const history = model.history.map((entry) => [
      entry.version,
      shareOf(model, entry.version),
      entry.digest,
      entry.created_at ?? '',
    ])
    const text = `${describe(model)}\n\n${formatTable(['VERSION', 'SERVES', 'DIGEST', 'CREATED'], history)}`
    call.output.data(model, text)
  },
}

const remove: Command = {
  name: 'model rm',
  summary: 'remove a model; its usage stays on record',
  positionals: ['<model>'],
  flags: { ...TENANT_FLAG, ...EDGE_FLAGS, ...DRY_RUN_FLAG },
  examples: ['nozzle model rm ticket-triage --dry-run', 'nozzle model rm ticket-triage'],
  async run(call) {
    const [name = ''] = call.positionals
    const target = locateEdge(call)
    const tenant = await resolveTenant(call, target)
    const path = toPath('v1', 'tenants', tenant, 'models', name)
    if (call.flags.isSet('dry-run')) {
      const request = { method: 'GET', path, signal: call.signal } as const
      const { history } = await callEdge(target, request, modelDetail)
      const plan = { dry_run: true, action: 'remove_model', tenant, name, versions: history.length }
      call.output.data(plan, `would remove ${tenant}/${name} and its versions: ${history.length}`)
      return
    }
    const request = { method: 'DELETE', path, signal: call.signal } as const
    const removed = await callEdge(target, request, removedModel)
    call.output.data(removed, `removed ${tenant}/${removed.name}`)
  },
}

/** `3`, or `3 90 %, 4 10 %` while a canary runs. */
function formatLanes({ version, canary }: ModelRow): string {
  if (canary === null) return String(version)
  return `${version} ${100 - canary.weight} %, ${canary.version} ${canary.weight} %`
}

function shareOf({ version, canary }: ModelRow, of: number): string {
  if (of === version) return `${100 - (canary?.weight ?? 0)} %`
  return of === canary?.version ? `${canary.weight} %` : ''
}

function describe(model: ModelRow): string {
  return [
    `name        ${model.name}`,
    `version     ${formatLanes(model)}`,
    `digest      ${model.digest}`,
    `base model  ${model.base_model}`,
    `rank        ${model.rank}`,
    `targets     ${model.target_modules.join(' ')}`,
    `size        ${formatBytes(model.pack_bytes)}`,
    `endpoint    ${model.endpoint}`,
  ].join('\n')
}

export const modelCommands: readonly Command[] = [list, show, ...laneCommands, remove]
