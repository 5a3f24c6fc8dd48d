/**
 * `nozzle host add | roll`: more hosts in the embedded pool, and all of its hosts started anew
 * without a cut stream.
 */
import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ApiRequest, callEdge, toPath } from '../lib/api-client.ts'
import { callerPath } from '../lib/caller-path.ts'
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import { type DataDir, locateDataDir, readRunning } from '../lib/data-dir.ts'
import { type HostRow, hostList, hostRow } from '../lib/edge-replies.ts'
import { DRY_RUN_FLAG, EDGE_FLAGS, type EdgeTarget, locateEdge } from '../lib/edge-target.ts'
import {
  drawnHostId,
  dropPlanned,
  nextHost,
  type PlannedHost,
  readHostPlan,
  writeHostPlan,
} from '../up/host-plan.ts'
import { readLastWords } from '../up/log-file.ts'
import { writeEnvFile } from './host-elsewhere.ts'

const POLL_MS = 250
const START_WAIT_S = 120
/** No edge goes by a snapshot of the pool that is older: by then all know that the host is back. */
const PAUSE_S = 2

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

export const hostPoolCommands: readonly Command[] = [add, roll]
