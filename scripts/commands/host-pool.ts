/**
 * `nozzle host add | run | roll`: more hosts, here in the embedded pool or on another machine, and
 * all of the embedded pool's started anew without a cut stream.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseEnv } from 'node:util'
import { type ApiRequest, callEdge, toPath } from '../lib/api-client.ts'
import { callerPath } from '../lib/caller-path.ts'
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import {
  type DataDir,
  locateDataDir,
  readRunning,
  readSecrets,
  writePrivateFile,
} from '../lib/data-dir.ts'
import { type HostRow, hostList, hostRow } from '../lib/edge-replies.ts'
import { DRY_RUN_FLAG, EDGE_FLAGS, type EdgeTarget, locateEdge } from '../lib/edge-target.ts'
import { quoteForShell } from '../lib/output.ts'
import { ensureBaseModel } from '../setup/base-model.ts'
import { prepareNative } from '../setup/prepare.ts'
import {
  drawnHostId,
  dropPlanned,
  nextHost,
  type PlannedHost,
  readHostPlan,
  writeHostPlan,
} from '../up/host-plan.ts'
import { readLastWords } from '../up/log-file.ts'

const POLL_MS = 250
const START_WAIT_S = 120
/** No edge goes by a snapshot of the pool that is older: by then all know that the host is back. */
const PAUSE_S = 2
/** As a host takes it: NOZZLE_HOST_NAME. */
const HOST_NAME = /^[A-Za-z0-9._-]{1,80}$/

const add: Command = {
  name: 'host add',
  summary: 'one more host: here, or an environment file for another machine',
  positionals: [],
  flags: {
    port: { type: 'string', value: 'n', help: 'where it listens; default: any free one' },
    'write-env': { type: 'string', value: 'path', help: 'write the settings of a host elsewhere' },
    url: { type: 'string', value: 'url', help: 'with --write-env: where the edge will reach it' },
    name: {
      type: 'string',
      value: 'name',
      help: "with --write-env: what to call it; default its machine's name",
    },
    ...EDGE_FLAGS,
    ...DRY_RUN_FLAG,
  },
  details:
    'The pool that runs here starts it at once, and again with each `nozzle up`; one that does not\n' +
    'start is forgotten. With --write-env the\n' +
    'file holds the pool secret: copy it to the other machine and run `nozzle host run --env` there.\n' +
    'Hosts of several machines need a common NOZZLE_STORE (a bucket, or a mounted folder).',
  examples: ['nozzle host add', 'nozzle host add --write-env gpu-2.env --url http://gpu-2:9000'],
  async run(call) {
    const port = call.flags.integer('port', 1, 65_535) ?? 0
    const file = call.flags.filledText('write-env')
    for (const flag of ['url', 'name'] as const) {
      if (file !== undefined || call.flags.text(flag) === undefined) continue
      throw new CliError('usage', `--${flag} goes with --write-env`, 'Add it, or leave this out.')
    }
    const target = locateEdge(call)
    const dir = requirePool(call)
    if (file !== undefined) {
      writeEnvFile(call, dir, target, callerPath(call, file))
      return
    }
    const plan = readHostPlan(dir)
    const host = nextHost(plan, port)
    if (port > 0) await requireFreePort(port, call.env.NOZZLE_HOST_ADDRESS || '127.0.0.1')
    if (call.flags.isSet('dry-run')) {
      call.output.data({ dry_run: true, action: 'add_host', ...host }, `would start ${host.name}`)
      return
    }
    const added = await startHost(call, target, dir, host)
    call.output.data(added, `${added.host_id}  ${added.url ?? ''}`)
  },
}

/** Plans the host and waits for it; one that does not come is planned no more. */
async function startHost(
  call: CommandCall,
  target: EdgeTarget,
  dir: DataDir,
  host: PlannedHost,
): Promise<HostRow> {
  const log = join(dir.logs, `${host.name}.log`)
  await takeInAgain(call, target, drawnHostId(dir, host.name))
  const before = new Set((await listHosts(call, target)).map(({ host_id }) => host_id))
  writeHostPlan(dir, [...readHostPlan(dir), host])
  call.output.note(`${host.name}: starting; log: ${log}`)
  try {
    return await waitFor(call, `${host.name} to report`, START_WAIT_S, async () => {
      if (!readHostPlan(dir).some(({ name }) => name === host.name)) {
        const { reason, fix = `The whole log: ${log}` } = readLastWords(log)
        throw new CliError('refused', `${host.name} does not start: ${reason}`, fix)
      }
      const hosts = await listHosts(call, target)
      return hosts.find(({ host_id, status }) => status === 'ready' && !before.has(host_id)) ?? null
    })
  } catch (error) {
    dropPlanned(dir, host.name)
    throw error
  }
}

/** Of a host that was removed before the new one gets its place, and with that its id. */
async function takeInAgain(
  call: CommandCall,
  target: EdgeTarget,
  id: string | null,
): Promise<void> {
  if (id === null) return
  const path = toPath('v1', 'hosts', id, 'resume')
  const request = { method: 'POST', path, json: {}, signal: call.signal } as const
  await callEdge(target, request, hostRow).catch((error: unknown) => {
    if (!(error instanceof CliError && error.reason === 'not_found')) throw error
  })
}

/** Throws `refused` when something listens there: its host could never start. */
async function requireFreePort(port: number, address: string): Promise<void> {
  const server = createServer()
  try {
    await once(server.listen(port, address), 'listening')
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new CliError(
      'refused',
      `a host cannot listen on port ${port}: ${reason}`,
      'Choose another --port, or leave it out for any free one.',
    )
  }
  await new Promise((done) => server.close(done))
}

const run: Command = {
  name: 'host run',
  summary: 'run one host of a pool in the foreground',
  positionals: [],
  flags: { env: { type: 'string', value: 'path', help: 'its settings, as `host add` wrote them' } },
  details: 'Builds the engine and fetches the base model when they are missing. Ctrl-C drains.',
  examples: ['nozzle host run --env gpu-2.env'],
  async run(call) {
    const path = callerPath(call, call.flags.requiredText('env'))
    const env = { ...call.env, ...readEnvFile(path) }
    const dir = locateDataDir(env, call.projectRoot)
    await prepareNative(call.output.note)
    const base = await ensureBaseModel(env.NOZZLE_BASE_MODEL, dir.models, call.output.note)
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

const roll: Command = {
  name: 'host roll',
  summary: 'start the hosts of the pool here anew, one after the other',
  positionals: [],
  flags: {
    timeout: {
      type: 'string',
      value: 'seconds',
      help: `longest drain and longest start of each (default ${START_WAIT_S})`,
    },
    pause: {
      type: 'string',
      value: 'seconds',
      help: `from one host's return to the next one's drain (default ${PAUSE_S})`,
    },
    ...EDGE_FLAGS,
    ...DRY_RUN_FLAG,
  },
  details:
    'Each is drained, started anew when nothing runs there any more, and resumed when it reports.\n' +
    'One that does not come back stops the roll: the others go on serving. Needs two hosts or more.\n' +
    'On other machines: `nozzle host drain ID --wait`, restart, `nozzle host resume ID`.',
  examples: ['nozzle host roll', 'nozzle host roll --dry-run'],
  async run(call) {
    const timeoutS = call.flags.integer('timeout', 1, 86_400) ?? START_WAIT_S
    const pauseS = call.flags.integer('pause', 0, 3600) ?? PAUSE_S
    const target = locateEdge(call)
    const dir = requirePool(call)
    const names = readHostPlan(dir).map(({ name }) => name)
    const ids = names.map((name) => requireId(dir, name))
    if ((await listHosts(call, target)).filter(({ status }) => status === 'ready').length < 2) {
      throw new CliError('refused', 'no other host would serve', 'Add one: `nozzle host add`.')
    }
    if (call.flags.isSet('dry-run')) {
      call.output.data({ dry_run: true, action: 'roll_hosts', ids }, `would roll ${ids.join(', ')}`)
      return
    }
    for (const [i, name] of names.entries()) {
      if (i > 0) await sleep(pauseS * 1000, undefined, { signal: call.signal })
      await rollHost(call, target, { dir, name, id: ids[i] ?? '', timeoutS })
    }
    call.output.data({ rolled: ids }, `rolled ${ids.join(', ')}`)
  },
}

async function rollHost(
  call: CommandCall,
  target: EdgeTarget,
  host: { readonly dir: DataDir; readonly name: string; id: string; readonly timeoutS: number },
): Promise<void> {
  const { dir, name, id, timeoutS } = host
  const path = toPath('v1', 'hosts', id)
  const ask = (method: ApiRequest['method'], verb = ''): Promise<HostRow> =>
    callEdge(target, { method, path: path + verb, signal: call.signal }, hostRow)
  const { epoch = 0 } = await ask('POST', '/drain')
  call.output.note(`${id}: draining`)
  await waitFor(call, `${id} to drain`, timeoutS, async () => {
    const { load, status } = await ask('GET')
    const left = load === undefined ? 0 : load.sequences_running + load.queue_depth
    return left === 0 && status !== 'ready' ? true : null
  })
  const plan = readHostPlan(dir)
  const restarted = plan.map((planned) =>
    planned.name === name ? { ...planned, restarts: planned.restarts + 1 } : planned,
  )
  writeHostPlan(dir, restarted)
  await waitFor(call, `${id} to come back`, timeoutS, async () => {
    const row = await ask('GET')
    return (row.epoch ?? 0) > epoch && row.status === 'draining' ? true : null
  })
  await ask('POST', '/resume')
  await waitFor(call, `${id} to serve`, timeoutS, async () => {
    return (await ask('GET')).status === 'ready' ? true : null
  })
  call.output.note(`${id}: serves again`)
}

async function waitFor<T>(
  call: CommandCall,
  what: string,
  timeoutS: number,
  look: () => Promise<T | null>,
): Promise<T> {
  const deadline = performance.now() + timeoutS * 1000
  for (;;) {
    const found = await look()
    if (found !== null) return found
    if (performance.now() > deadline) {
      const fix = 'See `nozzle host ls` and the log of the host.'
      throw new CliError('unavailable', `waited ${timeoutS} s for ${what}`, fix)
    }
    await sleep(POLL_MS, undefined, { signal: call.signal })
  }
}

async function listHosts(call: CommandCall, target: EdgeTarget): Promise<HostRow[]> {
  const request = { method: 'GET', path: '/v1/hosts', signal: call.signal } as const
  return (await callEdge(target, request, hostList)).data
}

function requirePool(call: CommandCall): DataDir {
  const dir = locateDataDir(call.env, call.projectRoot)
  if (readRunning(dir) !== null) return dir
  const fix = `Run this where \`nozzle up\` runs; set NOZZLE_DATA_DIR to its data directory.`
  throw new CliError('unavailable', `no pool runs from ${dir.root}`, fix)
}

function requireId(dir: DataDir, name: string): string {
  const id = drawnHostId(dir, name)
  if (id !== null) return id
  throw new CliError(
    'refused',
    `${name} was given its id by NOZZLE_HOST_ID, or has not started yet`,
    'Drain, restart and resume it by its id.',
  )
}

function writeEnvFile(call: CommandCall, dir: DataDir, target: EdgeTarget, path: string): void {
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

function readEnvFile(path: string): NodeJS.Dict<string> {
  try {
    return parseEnv(readFileSync(path, 'utf8'))
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    const fix = 'Name a file that `nozzle host add --write-env` wrote.'
    throw new CliError('not_found', `--env ${path} cannot be read: ${reason}`, fix)
  }
}

export const hostPoolCommands: readonly Command[] = [add, run, roll]
