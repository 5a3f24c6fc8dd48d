/** `nozzle deploy`: a PEFT adapter becomes the serving version of a model. */
import { existsSync } from 'node:fs'
import { MODEL_NAME } from '../../edge/catalog/model-reference.ts'
import { callEdge, toPath } from '../lib/api-client.ts'
import { callerPath } from '../lib/caller-path.ts'
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import { locateDataDir } from '../lib/data-dir.ts'
import { deployAdapter, toCurlLine } from '../lib/deploy-adapter.ts'
import { modelList } from '../lib/edge-replies.ts'
import {
  DEMO_TENANT,
  DRY_RUN_FLAG,
  EDGE_FLAGS,
  type EdgeTarget,
  locateEdge,
  resolveTenant,
  TENANT_FLAG,
} from '../lib/edge-target.ts'
import { otherBaseNote } from '../lib/named-base.ts'
import { formatBytes, quoteForShell } from '../lib/output.ts'
import { findPeftFiles } from '../lib/peft-directory.ts'
import { progressOn, startWaiting } from '../lib/upload-progress.ts'
import { checkAdapter, formatCheck } from './check.ts'

export const deployCommand: Command = {
  name: 'deploy',
  summary: 'upload a PEFT adapter and serve it',
  positionals: ['<peft-dir>'],
  flags: {
    model: { type: 'string', value: 'name', help: 'name of the model; new, or the next version' },
    canary: {
      type: 'string',
      value: 'percent',
      help: 'share of requests that it gets beside the main version (default: all)',
    },
    force: { type: 'boolean', help: 'a new version even of the bytes that serve already' },
    ...TENANT_FLAG,
    ...EDGE_FLAGS,
    ...DRY_RUN_FLAG,
  },
  details:
    'The directory holds adapter_config.json and adapter_model.safetensors. The pool checks and\n' +
    'converts the adapter once; the same bytes are stored once. --dry-run checks it here instead.\n' +
    'Where the pool keeps adapters in a bucket, the files go straight there in parts, and a deploy\n' +
    'that was cut off goes on where it was when it is run again.\n' +
    'Without --canary the version serves all requests. Either way a canary that runs ends, unless it is\n' +
    'of these bytes: then --canary gives it that share and makes no version. A canary is\n' +
    'followed by `nozzle model split`, `nozzle model promote` or `nozzle model rollback`.',
  examples: [
    'nozzle deploy ./my-adapter --model ticket-triage',
    'nozzle deploy ./my-adapter --model ticket-triage --canary 10',
    'nozzle deploy ./my-adapter --model ticket-triage --dry-run',
    'NOZZLE_API_KEY=nz_… nozzle deploy ./out --model chat --tenant acme --json',
  ],
  async run(call) {
    const [directory = ''] = call.positionals
    const model = requireName(call.flags.requiredText('model'))
    const canary = call.flags.integer('canary', 0, 100)
    const isForced = call.flags.isSet('force')
    const files = findPeftFiles(callerPath(call, directory))
    if (call.flags.isSet('dry-run')) {
      const receipt = await checkAdapter(call, files)
      const plan = { dry_run: true, model, canary: canary ?? null, ...receipt }
      call.output.data(plan, formatCheck(receipt))
      return
    }
    const target = locateEdge(call)
    const tenant = await resolveTenant(call, target)
    const { note } = call.output
    const progress = progressOn(call.output)
    const { signal } = call
    // What needs no upload to be wrong is told before it, not after.
    const path = toPath('v1', 'tenants', tenant, 'models')
    const models = await callEdge(target, { method: 'GET', path, signal }, modelList)
    if (canary !== undefined && !models.data.some(({ name }) => name === model)) {
      const fix = 'Deploy it without --canary first.'
      throw new CliError('refused', `${tenant}/${model} has no version beside a canary yet`, fix)
    }
    note(`uploading ${formatBytes(files.bytes)} to ${tenant}/${model}`)
    const onSent = () => startWaiting(call.output, 'the pool checks and converts it')
    const request = { tenant, model, files, canary, isForced, progress, onSent, signal }
    const deployed = await deployAdapter(target, request)
    const foreign = otherBaseNote(files.configPath, deployed.base_model)
    if (foreign !== null) note(foreign)
    if (deployed.unchanged) note(`version ${deployed.version} of these bytes serves already`)
    const { ended_canary: ended } = deployed
    if (ended) note(`the canary that ran, version ${ended.version} (${ended.weight} %), has ended`)
    const curl = toCurlLine(deployed.endpoint, keyText(call, target, tenant), 'Hello')
    const text = [
      `model     ${tenant}/${deployed.model}`,
      `version   ${deployed.version}${deployed.canary === null ? '' : ` (canary, ${deployed.canary} %)`}`,
      `digest    ${deployed.digest}`,
      `rank      ${deployed.rank}, ${formatBytes(deployed.pack_bytes)} in a slot`,
      `endpoint  ${deployed.endpoint}`,
      `try it    ${curl}`,
    ]
    call.output.data({ ...deployed, curl }, text.join('\n'))
  },
}

/** Throws `usage`. */
function requireName(model: string): string {
  if (MODEL_NAME.test(model)) return model
  throw new CliError(
    'usage',
    `--model "${model}" is no name of a model`,
    'Use up to 64 letters, digits, ".", "_" and "-", with a letter or digit at both ends.',
  )
}

/** What a shell puts in for a key of the tenant: the demo key's file where that is one. */
function keyText(call: CommandCall, { keySource }: EdgeTarget, tenant: string): string {
  const { demoKeyFile } = locateDataDir(call.env, call.projectRoot)
  const isHere = keySource !== 'given' && tenant === DEMO_TENANT && existsSync(demoKeyFile)
  return isHere ? `$(cat ${quoteForShell(demoKeyFile)})` : '$NOZZLE_API_KEY'
}
