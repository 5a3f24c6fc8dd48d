/**
 * A release of the Worker as data: which secrets, which wrangler commands. Pure; no secret is ever
 * part of an argument.
 */
import { z } from 'zod'
import type { FlagSpecs, Flags } from '../lib/argv.ts'
import { CliError } from '../lib/cli-error.ts'
import { EDGE_SECRETS } from './edge-plan.ts'
import { baseModelName, checkedFlag, httpUrl, neededFlag } from './release-flags.ts'

export const CLOUDFLARE_FLAGS: FlagSpecs = {
  secrets: {
    type: 'string',
    value: 'file',
    help: 'cloudflare: nozzle-edge.secrets.env, as `nozzle release secrets` wrote it',
  },
  worker: { type: 'string', value: 'name', help: 'cloudflare: the Worker (nozzle-edge)' },
  'smoke-s': {
    type: 'string',
    value: 'n',
    help: 'cloudflare: seconds that the new version has to answer well (60)',
  },
}

const OPTIONAL_SECRETS = ['NOZZLE_CLOUDEVENTS_TOKEN', 'NOZZLE_POOL_SECRET_ALSO']
const CONFIG = 'edge/wrangler.jsonc'
const workerName = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/)

export interface CloudflarePlan {
  readonly worker: string
  readonly baseModelName: string
  /** null = what wrangler says that it deployed to. */
  readonly publicUrl: string | null
  readonly smokeMs: number
}

export function readCloudflarePlan(flags: Flags): CloudflarePlan {
  return {
    worker: checkedFlag(flags, 'worker', workerName, 'is a name of DNS') ?? 'nozzle-edge',
    baseModelName: neededFlag(flags, 'base-model-name', baseModelName, 'is a name, no path'),
    publicUrl: checkedFlag(flags, 'public-url', httpUrl, 'is an http or https URL') ?? null,
    smokeMs: (flags.integer('smoke-s', 1, 3600) ?? 60) * 1000,
  }
}

export type WorkerSecrets = Readonly<Record<string, string>>

/** Those of the Worker alone. Throws `usage` that names what is missing; no value is in it. */
export function pickWorkerSecrets(env: NodeJS.Dict<string>): WorkerSecrets {
  const missing = EDGE_SECRETS.filter(({ name }) => !env[name]).map(({ name }) => name)
  if (missing.length > 0) {
    const fix = '`nozzle release secrets` makes them, or add them.'
    throw new CliError('usage', `--secrets lacks ${missing.join(', ')}`, fix)
  }
  const names = [...EDGE_SECRETS.map(({ name }) => name), ...OPTIONAL_SECRETS]
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = env[name]
      return value ? [[name, value]] : []
    }),
  )
}

const target = ({ worker }: CloudflarePlan): string[] => ['--config', CONFIG, '--name', worker]

export function statusArgv(plan: CloudflarePlan): string[] {
  return ['deployments', 'status', '--json', ...target(plan)]
}

/** Code, settings and secrets go up as one version: rolling back takes all of them back. */
export function deployArgv(plan: CloudflarePlan, secretsFile: string): string[] {
  const { publicUrl } = plan
  return [
    'deploy',
    ...target(plan),
    ...['--var', `NOZZLE_BASE_MODEL_NAME:${plan.baseModelName}`],
    ...(publicUrl === null ? [] : ['--var', `NOZZLE_PUBLIC_URL:${publicUrl}`]),
    ...['--secrets-file', secretsFile],
    ...['--message', 'nozzle release edge'],
  ]
}

export function rollbackArgv(plan: CloudflarePlan, versionId: string): string[] {
  const message = 'nozzle release edge: the version after it failed its smoke test'
  return ['rollback', versionId, ...target(plan), '--message', message, '--yes']
}

const deploymentStatus = z.object({
  versions: z.array(z.object({ version_id: z.string(), percentage: z.number() })).min(1),
})

/** The version that serves most requests. Throws an Error for another form. */
export function parseStatus(stdout: string): string {
  const { versions } = deploymentStatus.parse(JSON.parse(stdout))
  const [first] = versions.toSorted((a, b) => b.percentage - a.percentage)
  if (first === undefined) throw new Error('no version')
  return first.version_id
}

/** Whether wrangler failed since the Worker was never deployed. */
export function isAbsentWorker(stderr: string): boolean {
  return /\b10007\b|does not exist on your account/i.test(stderr)
}

const deployRecord = z.object({
  type: z.literal('deploy'),
  version_id: z.string(),
  targets: z.array(z.string()).default([]),
})

/** What wrangler wrote to WRANGLER_OUTPUT_FILE_PATH; null = it deployed nothing. */
export function parseDeployRecord(
  lines: string,
): { readonly versionId: string; readonly url: string | null } | null {
  for (const line of lines.split('\n').filter((text) => text.trim() !== '')) {
    const record = deployRecord.safeParse(JSON.parse(line)).data
    if (record === undefined) continue
    const url = record.targets.find((place) => place.startsWith('https://')) ?? null
    return { versionId: record.version_id, url }
  }
  return null
}
