/**
 * The hosts that an embedded pool is to run: one file in its data directory, which commands write
 * and the supervisor follows. The first host lives in the data directory itself, each further one
 * in a folder of its own; the store of adapters is common to all.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { CliError } from '../lib/cli-error.ts'
import { type DataDir, writePrivateFile } from '../lib/data-dir.ts'

const plannedHost = z.object({
  name: z.string().regex(/^host(-\d{1,4})?$/),
  /** 0 = any free one. */
  port: z.int().min(0).max(65_535),
  /** Grows when the process is to start anew. */
  restarts: z.int().min(0),
})
export type PlannedHost = z.infer<typeof plannedHost>

const hostPlan = z.array(plannedHost).min(1).max(64)

export const FIRST_HOST: PlannedHost = { name: 'host', port: 0, restarts: 0 }

export function planPath(dir: DataDir): string {
  return join(dir.root, 'hosts.json')
}

/** One host where nothing was planned. Throws `refused` when the file is damaged. */
export function readHostPlan(dir: DataDir): PlannedHost[] {
  const path = planPath(dir)
  if (!existsSync(path)) return [FIRST_HOST]
  try {
    return hostPlan.parse(JSON.parse(readFileSync(path, 'utf8')))
  } catch {
    throw new CliError('refused', `${path} is damaged`, 'Remove it: the pool runs one host then.')
  }
}

export function writeHostPlan(dir: DataDir, plan: readonly PlannedHost[]): void {
  writePrivateFile(planPath(dir), `${JSON.stringify(plan, null, 2)}\n`)
}

/** Takes the entry of one host out; nothing when it is not there. */
export function dropPlanned(dir: DataDir, name: string): void {
  const plan = readHostPlan(dir)
  const kept = plan.filter((planned) => planned.name !== name)
  if (kept.length < plan.length) writeHostPlan(dir, kept)
}

/** So many hosts: the first of those that are planned, and new ones. */
export function resizePlan(plan: readonly PlannedHost[], count: number): PlannedHost[] {
  const hosts = plan.slice(0, count)
  while (hosts.length < count) hosts.push(nextHost(hosts, 0))
  return hosts
}

/** With the lowest number that is free. */
export function nextHost(plan: readonly PlannedHost[], port: number): PlannedHost {
  const names = new Set(plan.map(({ name }) => name))
  if (!names.has(FIRST_HOST.name)) return { ...FIRST_HOST, port }
  let number = 2
  while (names.has(`host-${number}`)) number += 1
  return { name: `host-${number}`, port, restarts: 0 }
}

/** NOZZLE_DATA_DIR of the host. */
export function hostHome(dir: DataDir, name: string): string {
  return name === FIRST_HOST.name ? dir.root : join(dir.root, 'hosts', name)
}

/** Journals of all hosts that ever ran here, planned still or not; the first host's is first. */
export function hostJournals(dir: DataDir): string[] {
  const further = join(dir.root, 'hosts')
  const homes = existsSync(further)
    ? readdirSync(further)
        .sort()
        .map((name) => join(further, name))
    : []
  return [dir.root, ...homes].map((home) => join(home, 'host', 'journal')).filter(existsSync)
}

/** Which of the planned hosts drew the id; null = none, or one that was given its id. */
export function plannedNameOf(dir: DataDir, hostId: string): string | null {
  const names = readHostPlan(dir).map(({ name }) => name)
  return names.find((name) => drawnHostId(dir, name) === hostId) ?? null
}

/** The id that the host drew; null before its first start, or where NOZZLE_HOST_ID names it. */
export function drawnHostId(dir: DataDir, name: string): string | null {
  const path = join(hostHome(dir, name), 'host', 'id')
  return existsSync(path) ? readFileSync(path, 'utf8').trim() : null
}
