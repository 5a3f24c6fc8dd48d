/** `nozzle host`: the hosts of a pool. Needs the operator key. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { z } from 'zod'
import { callEdge, toPath } from '../lib/api-client.ts'
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import { type DataDir, locateDataDir } from '../lib/data-dir.ts'
import { type HostRow, hostList, hostRow, removedHost } from '../lib/edge-replies.ts'
import { DRY_RUN_FLAG, EDGE_FLAGS, type EdgeTarget, locateEdge } from '../lib/edge-target.ts'
import { formatTable } from '../lib/output.ts'
import { dropPlanned, plannedNameOf, readHostPlan } from '../up/host-plan.ts'

const POLL_MS = 250
const DRAIN_WAIT_S = 120
const SHOWN = [
  ...(['host_id', 'host_name', 'status', 'wish', 'url'] as const),
  ...(['engine', 'base_model', 'version'] as const),
]
/** What `<host>` may be. */
const HOST_MEANS = '<host> is an id, or a name that one host of the pool alone has.'

const list: Command = {
  name: 'host ls',
  summary: 'list the hosts of the pool',
  positionals: [],
  flags: EDGE_FLAGS,
  details:
    'RUN: sequences that run, of those it can; WAIT: those that wait, and how long one that came now\n' +
    'would; ADAPTERS: in slots, in RAM, on disk.',
  examples: ['nozzle host ls', 'nozzle host ls --json'],
  async run(call) {
    const request = { method: 'GET', path: '/v1/hosts', signal: call.signal } as const
    const hosts = await callEdge(locateEdge(call), request, hostList)
    const columns = [
      ...['ID', 'NAME', 'STATUS', 'WISH', 'ENGINE', 'BASE MODEL', 'RUN', 'WAIT', 'ADAPTERS', 'UP'],
      ...['VERSION', 'LAST SEEN', 'URL'],
    ]
    call.output.data(hosts, formatTable(columns, hosts.data.map(toCells)))
  },
}

const show: Command = {
  name: 'host show',
  summary: 'show one host',
  positionals: ['<host>'],
  flags: EDGE_FLAGS,
  details: HOST_MEANS,
  examples: ['nozzle host show hst_1f0c', 'nozzle host show gpu-2'],
  async run(call) {
    const host = await getHost(call, locateEdge(call))
    const { load } = host
    const lines = [
      ...SHOWN.map((name) => [name.replaceAll('_', ' '), host[name] ?? '']),
      ...(load === undefined ? [] : Object.entries(load)).map(([name, value]) => [
        name.replaceAll('_', ' '),
        String(value),
      ]),
      ['adapters', describeTiers(host)],
      ['up', uptimeText(host)],
      ['last seen', host.last_seen_at ?? ''],
    ]
    call.output.data(
      host,
      lines.map(([name = '', value]) => `${name.padEnd(18)}${value}`).join('\n'),
    )
  },
}

const drain: Command = {
  name: 'host drain',
  summary: 'let a host take nothing new; what runs there ends by itself',
  positionals: ['<host>'],
  flags: {
    wait: { type: 'boolean', help: 'return when nothing runs there any more' },
    timeout: {
      type: 'string',
      value: 'seconds',
      help: `longest wait; then exit code 6 (default ${DRAIN_WAIT_S})`,
    },
    ...EDGE_FLAGS,
    ...DRY_RUN_FLAG,
  },
  details: `It stays drained over its own restart, until \`nozzle host resume\`.\n${HOST_MEANS}`,
  examples: ['nozzle host drain hst_1f0c --wait', 'nozzle host drain hst_1f0c --dry-run'],
  async run(call) {
    const timeoutS = call.flags.integer('timeout', 0, 86_400) ?? DRAIN_WAIT_S
    const target = locateEdge(call)
    if (await isDryRun(call, target, 'drain')) return
    const host = await commandHost(call, target, 'drain')
    if (call.flags.isSet('wait')) await untilIdle(call, target, host.host_id, timeoutS)
    const after = await getHost(call, target)
    call.output.data(after, `${host.host_id}: ${describeDrain(after)}`)
  },
}

const resume: Command = {
  name: 'host resume',
  summary: 'let a host take requests again',
  positionals: ['<host>'],
  flags: { ...EDGE_FLAGS, ...DRY_RUN_FLAG },
  details: HOST_MEANS,
  examples: ['nozzle host resume hst_1f0c'],
  async run(call) {
    const target = locateEdge(call)
    if (await isDryRun(call, target, 'resume')) return
    const host = await commandHost(call, target, 'resume')
    call.output.data(host, `${host.host_id}: ${host.status}`)
  },
}

const remove: Command = {
  name: 'host rm',
  summary: 'remove a host that is drained or gone',
  positionals: ['<host>'],
  flags: {
    force: { type: 'boolean', help: 'though it serves; what runs there ends by itself' },
    ...EDGE_FLAGS,
    ...DRY_RUN_FLAG,
  },
  details:
    'It is listed no more, and takes nothing should it report again; `nozzle host resume` takes it in\n' +
    'again. A host of the pool that `nozzle up` runs from this data directory is planned no more and\n' +
    'its process ends, unless it is the only one; a process elsewhere is for you to stop.\n' +
    HOST_MEANS,
  examples: ['nozzle host rm hst_1f0c', 'nozzle host rm hst_1f0c --force'],
  async run(call) {
    const target = locateEdge(call)
    const isDryRun = call.flags.isSet('dry-run')
    const force = String(call.flags.isSet('force'))
    const ask = <T>(dry_run: boolean, reply: z.ZodType<T>): Promise<T> => {
      const path = `${hostPath(call)}?${new URLSearchParams({ force, dry_run: String(dry_run) })}`
      return callEdge(target, { method: 'DELETE', path, signal: call.signal }, reply)
    }
    const host = await ask(true, hostRow)
    const dir = locateDataDir(call.env, call.projectRoot)
    const process = plannedNameOf(dir, host.host_id)
    if (process !== null) requireOthers(dir, host)
    if (isDryRun) {
      printPlan(call, 'remove', host)
      return
    }
    const removed = await ask(false, removedHost)
    if (process !== null) dropPlanned(dir, process)
    const end = process === null ? '' : `; its process here, ${process}, ends`
    call.output.data({ ...removed, process }, `removed ${removed.host_id}${end}`)
  },
}

/** Throws `refused` for the one host that an embedded pool runs: it cannot be without any. */
function requireOthers(dir: DataDir, { host_id: id }: HostRow): void {
  if (readHostPlan(dir).length > 1) return
  const fix = 'Add another first (`nozzle host add`), or end `nozzle up`.'
  throw new CliError('refused', `${id} is the only host that the pool here runs`, fix)
}

function hostPath(call: CommandCall): string {
  return toPath('v1', 'hosts', call.positionals[0] ?? '')
}

function getHost(call: CommandCall, target: EdgeTarget): Promise<HostRow> {
  return callEdge(target, { method: 'GET', path: hostPath(call), signal: call.signal }, hostRow)
}

function commandHost(
  call: CommandCall,
  target: EdgeTarget,
  verb: 'drain' | 'resume',
): Promise<HostRow> {
  const path = `${hostPath(call)}/${verb}`
  return callEdge(target, { method: 'POST', path, json: {}, signal: call.signal }, hostRow)
}

async function isDryRun(call: CommandCall, target: EdgeTarget, action: string): Promise<boolean> {
  if (!call.flags.isSet('dry-run')) return false
  printPlan(call, action, await getHost(call, target))
  return true
}

function printPlan(call: CommandCall, action: string, { host_id, status }: HostRow): void {
  const plan = { dry_run: true, action: `${action}_host`, host_id, status }
  call.output.data(plan, `would ${action} ${host_id}, which is ${status}`)
}

async function untilIdle(
  call: CommandCall,
  target: EdgeTarget,
  id: string,
  timeoutS: number,
): Promise<void> {
  const deadline = performance.now() + timeoutS * 1000
  for (let noted = -1; ; ) {
    const host = await getHost(call, target)
    if (isAbsent(host)) {
      const fix = 'It drains when it reports. If its process has ended: `nozzle host rm`.'
      throw new CliError(
        'unavailable',
        `${id} is ${host.status}: what runs there is not known`,
        fix,
      )
    }
    if (isDrained(host)) return
    const left = sequencesOf(host)
    if (left !== noted) call.output.note(`${id}: ${left} to go`)
    noted = left
    if (performance.now() > deadline) {
      const fix = 'It stays drained: wait again, or end what runs with its process.'
      throw new CliError('unavailable', `${id} still runs ${left} after ${timeoutS} s`, fix)
    }
    await sleep(POLL_MS, undefined, { signal: call.signal })
  }
}

function sequencesOf({ load }: HostRow): number {
  return load === undefined ? 0 : load.sequences_running + load.queue_depth
}

/** Nobody knows what runs there. */
function isAbsent({ status }: HostRow): boolean {
  return status === 'gone' || status === 'silent'
}

function isDrained(host: HostRow): boolean {
  return host.status === 'draining' && sequencesOf(host) === 0
}

function describeDrain(host: HostRow): string {
  if (isAbsent(host)) return `${host.status}; it drains when it reports`
  return isDrained(host) ? 'drained' : `draining, ${sequencesOf(host)} to go`
}

function toCells(host: HostRow): (string | number)[] {
  const { load } = host
  return [
    host.host_id,
    host.host_name ?? '',
    host.status,
    host.wish,
    host.engine ?? '',
    host.base_model ?? '',
    load === undefined ? '' : `${load.sequences_running}/${load.sequences_max}`,
    load === undefined ? '' : `${load.queue_depth}, ${load.wait_ms} ms`,
    describeTiers(host),
    uptimeText(host),
    host.version ?? '',
    host.last_seen_at ?? '',
    host.url ?? '',
  ]
}

function describeTiers({ adapters }: HostRow): string {
  return adapters === undefined ? '' : `${adapters.slot} ${adapters.ram} ${adapters.disk}`
}

function uptimeText({ uptime_ms: ms }: HostRow): string {
  if (ms === undefined) return ''
  const minutes = Math.floor(ms / 60_000)
  if (minutes < 60) return `${minutes} min`
  return minutes < 1440 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 1440)} d`
}

export const hostCommands: readonly Command[] = [list, show, drain, resume, remove]
