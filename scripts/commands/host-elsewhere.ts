/**
 * Hosts of the pool on another machine: an environment file that `nozzle host add --write-env`
 * writes here, and `nozzle host run` there.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import {
  type DataDir,
  locateDataDir,
  readRunning,
  readSecrets,
  writePrivateFile,
} from '../lib/data-dir.ts'
import type { EdgeTarget } from '../lib/edge-target.ts'
import { readEnvFile } from '../lib/env-file.ts'
import { quoteForShell } from '../lib/output.ts'
import { progressOn } from '../lib/upload-progress.ts'
import { ensureBaseModel } from '../setup/base-model.ts'
import { prepareNative } from '../setup/prepare.ts'

/** As a host takes it: NOZZLE_HOST_NAME. */
const HOST_NAME = /^[A-Za-z0-9._-]{1,80}$/

export const hostRunCommand: Command = {
  name: 'host run',
  summary: 'run one host of a pool in the foreground',
  positionals: [],
  flags: { env: { type: 'string', value: 'path', help: 'its settings, as `host add` wrote them' } },
  details: 'Builds the engine and fetches the base model when they are missing. Ctrl-C drains.',
  examples: ['nozzle host run --env gpu-2.env'],
  async run(call) {
    const env = { ...call.env, ...readEnvFile(call, call.flags.requiredText('env')) }
    const dir = locateDataDir(env, call.projectRoot)
    await prepareNative(call.output.note)
    const { output } = call
    const source = env.NOZZLE_BASE_MODEL
    const base = await ensureBaseModel(source, dir.models, output.note, progressOn(output))
    requireName(base.name, env.NOZZLE_BASE_MODEL_NAME)
    const child = spawn(process.execPath, [join(call.projectRoot, 'gpu-host', 'index.ts')], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      detached: true,
      env: {
        ...env,
        NOZZLE_DATA_DIR: dir.root,
        NOZZLE_BASE_MODEL_PATH: base.path,
        NOZZLE_BASE_MODEL_NAME: base.name,
      },
    })
    const stop = (): void => void child.kill('SIGTERM')
    call.signal.addEventListener('abort', stop, { once: true })
    call.hurry.addEventListener('abort', stop, { once: true })
    const [code] = await once(child, 'exit')
    if (code === 0) return
    throw new CliError('unexpected', `the host ended with exit code ${code}`, 'Its log is above.')
  },
}

/** Under another name the host would join as one of a base model that nobody asks for. */
function requireName(name: string, poolName: string | undefined): void {
  if (!poolName || poolName === name) return
  throw new CliError(
    'refused',
    `this host would serve ${name}, its pool serves ${poolName}`,
    "Set NOZZLE_BASE_MODEL in the file to the pool's, or take NOZZLE_BASE_MODEL_NAME out.",
  )
}

/** The settings of a host elsewhere, with the pool's secret. */
export function writeEnvFile(
  call: CommandCall,
  dir: DataDir,
  target: EdgeTarget,
  path: string,
): void {
  const url = call.flags.requiredText('url')
  if (!URL.canParse(url)) throw new CliError('usage', `--url "${url}" is not a URL`)
  const name = call.flags.filledText('name')
  if (name !== undefined && !HOST_NAME.test(name)) {
    const fix = 'Up to 80 letters, digits, dots, dashes and underscores.'
    throw new CliError('usage', `--name "${name}" is not a host's name`, fix)
  }
  const secret = readSecrets(dir)?.pool_secret
  if (secret === undefined) throw new CliError('refused', `${dir.root} holds no pool secret`)
  const baseModel = readRunning(dir)?.base_model
  const port = new URL(url).port || '80'
  const lines = [
    `NOZZLE_POOL_SECRET=${secret}`,
    `NOZZLE_EDGE_URL=${target.edgeUrl}`,
    'NOZZLE_HOST_ADDRESS=0.0.0.0',
    `NOZZLE_HOST_PORT=${port}`,
    `NOZZLE_HOST_URL=${url}`,
    ...(name === undefined ? [] : [`NOZZLE_HOST_NAME=${name}`]),
    ...(baseModel ? [`NOZZLE_BASE_MODEL_NAME=${baseModel}`] : []),
    ...(call.env.NOZZLE_BASE_MODEL ? [`NOZZLE_BASE_MODEL=${call.env.NOZZLE_BASE_MODEL}`] : []),
    ...(call.env.NOZZLE_STORE ? [`NOZZLE_STORE=${call.env.NOZZLE_STORE}`] : []),
  ]
  const command = `nozzle host run --env ${quoteForShell(path)}`
  if (call.flags.isSet('dry-run')) {
    call.output.data({ dry_run: true, path, command }, `would write ${path}`)
    return
  }
  writePrivateFile(path, `${lines.join('\n')}\n`)
  if (/^https?:\/\/(127\.|localhost|\[::1\])/.test(target.edgeUrl)) {
    call.output.note('NOZZLE_EDGE_URL names this machine as itself: put in what the other one sees')
  }
  if (!call.env.NOZZLE_STORE) {
    call.output.note('NOZZLE_STORE is not set: adapters are kept where the other machine sees none')
  }
  call.output.data({ path, command }, `wrote ${path}; on the other machine: ${command}`)
}
