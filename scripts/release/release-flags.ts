/** Flags of `nozzle release …` → checked values. Each error names the flag and what it takes. */
import { z } from 'zod'
import type { FlagSpecs, Flags } from '../lib/argv.ts'
import { CliError } from '../lib/cli-error.ts'
import { SERVICE_TARGETS } from './setting.ts'

export const OUTPUT_FLAGS: FlagSpecs = {
  out: { type: 'string', value: 'dir', help: 'write the files there (default: print them)' },
  force: { type: 'boolean', help: 'overwrite files of that folder that differ' },
}

export const SERVICE_FLAGS: FlagSpecs = {
  'base-model-name': {
    type: 'string',
    value: 'name',
    help: 'base model of the pool, as clients call it',
  },
  port: { type: 'string', value: 'n', help: 'port to listen on' },
  'memory-gib': { type: 'string', value: 'n', help: 'memory at most, in GiB' },
  root: { type: 'string', value: 'dir', help: 'this checkout on the machine (/opt/nozzle)' },
  network: {
    type: 'string',
    isMultiple: true,
    value: 'cidr',
    help: 'systemd: peers that it may talk to, and nobody else; once for each',
  },
  image: { type: 'string', value: 'image', help: 'container image' },
  namespace: { type: 'string', value: 'name', help: 'kubernetes: namespace (nozzle)' },
  replicas: { type: 'string', value: 'n', help: 'kubernetes: pods at least' },
  'replicas-max': { type: 'string', value: 'n', help: 'kubernetes: pods at most' },
}

export const baseModelName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$/)
export const absolutePath = z.string().regex(/^\/[A-Za-z0-9_./-]*[A-Za-z0-9_-]$/)
export const httpUrl = z.url({ protocol: /^https?$/ })
const cidr = z.union([z.cidrv4(), z.cidrv6(), z.ipv4(), z.ipv6()])
const namespace = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/)
const image = z.string().regex(/^[a-z0-9][a-z0-9._:/@-]{0,254}$/)

export interface ServicePlan {
  readonly baseModelName: string
  readonly port: number
  readonly memoryGib: number
  /** Where this checkout lies on the machine or in the image. */
  readonly root: string
  readonly networks: readonly string[]
  readonly image: string
  readonly namespace: string
  readonly replicas: number
  readonly replicasMax: number
}

export interface ServiceDefaults {
  readonly port: number
  readonly memoryGib: number
  readonly image: string
  readonly replicas: number
  readonly replicasMax: number
}

export function readServicePlan(flags: Flags, defaults: ServiceDefaults): ServicePlan {
  const replicas = flags.integer('replicas', 1, 1000) ?? defaults.replicas
  const replicasMax =
    flags.integer('replicas-max', 1, 1000) ?? Math.max(replicas, defaults.replicasMax)
  if (replicasMax < replicas) {
    throw new CliError('usage', `--replicas-max ${replicasMax} is below --replicas ${replicas}`)
  }
  return {
    baseModelName: neededFlag(flags, 'base-model-name', baseModelName, 'is a name, no path'),
    port: flags.integer('port', 1, 65_535) ?? defaults.port,
    memoryGib: flags.integer('memory-gib', 1, 65_536) ?? defaults.memoryGib,
    root: checkedFlag(flags, 'root', absolutePath, 'is an absolute path') ?? '/opt/nozzle',
    networks: flags
      .texts('network')
      .map((text) => checkedText('network', text, cidr, 'is an address or a CIDR')),
    image: checkedFlag(flags, 'image', image, 'is the name of an image') ?? defaults.image,
    namespace: checkedFlag(flags, 'namespace', namespace, 'is a name of DNS') ?? 'nozzle',
    replicas,
    replicasMax,
  }
}

/** Absent = undefined. Throws `usage`. */
export function checkedFlag<T>(
  flags: Flags,
  name: string,
  schema: z.ZodType<T>,
  rule: string,
): T | undefined {
  const text = flags.text(name)
  return text === undefined ? undefined : checkedText(name, text, schema, rule)
}

export function neededFlag<T>(flags: Flags, name: string, schema: z.ZodType<T>, rule: string): T {
  return checkedText(name, flags.requiredText(name), schema, rule)
}

export function checkedText<T>(name: string, text: string, schema: z.ZodType<T>, rule: string): T {
  const parsed = schema.safeParse(text)
  if (parsed.success) return parsed.data
  throw new CliError('usage', `--${name} ${rule}, not "${text}"`)
}

/** Throws `usage`. */
export function readTarget<T extends string>(flags: Flags, targets: readonly T[]): T {
  const asked = flags.requiredText('target')
  const target = targets.find((known) => known === asked)
  if (target !== undefined) return target
  throw new CliError('usage', `--target is one of ${targets.join(', ')}, not "${asked}"`)
}

export const HOST_TARGET_FLAG: FlagSpecs = {
  target: { type: 'string', value: 'way', help: SERVICE_TARGETS.join(', ') },
}
