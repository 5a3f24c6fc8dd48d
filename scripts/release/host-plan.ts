/** What is to be known of a host to write its files: flags → HostPlan → its environment. */
import { z } from 'zod'
import type { FlagSpecs, Flags } from '../lib/argv.ts'
import { CliError } from '../lib/cli-error.ts'
import {
  absolutePath,
  checkedFlag,
  checkedText,
  httpUrl,
  readServicePlan,
  type ServicePlan,
} from './release-flags.ts'
import type { SecretName, ServiceTarget, Setting } from './setting.ts'

export const HOST_FLAGS: FlagSpecs = {
  'edge-url': {
    type: 'string',
    value: 'urls',
    help: 'edges that hear of the host, with commas between them',
  },
  url: { type: 'string', value: 'url', help: 'systemd: where edges reach this host' },
  model: { type: 'string', value: 'path', help: 'the base model (GGUF) on the machine' },
  store: { type: 'string', value: 'place', help: 'adapters: s3://bucket/prefix, or a directory' },
  'store-endpoint': { type: 'string', value: 'url', help: 'of the bucket; absent = AWS' },
  device: { type: 'string', value: 'kind', help: 'cpu or cuda (cuda)' },
  gpus: { type: 'string', value: 'n', help: 'kubernetes: GPUs of a pod (1 with cuda)' },
  slots: { type: 'string', value: 'n', help: 'adapters in slots at once (16)' },
  sequences: { type: 'string', value: 'n', help: 'requests that run at once (16)' },
  'drain-s': { type: 'string', value: 'n', help: 'seconds that streams may take to end (120)' },
}

const DEFAULTS = { port: 8790, memoryGib: 16, image: 'nozzle-host', replicas: 2, replicasMax: 8 }
/** Beyond the drain: what a host itself allows for its last report and sockets, and 5 s more. */
export const STOP_SLACK_S = 25
/** Where a container has its data and the base model. */
export const CONTAINER_DATA = '/var/lib/nozzle-host'
const CONTAINER_MODELS = '/models'

export interface HostPlan extends ServicePlan {
  readonly edgeUrls: readonly string[]
  /** null = the target says where. */
  readonly url: string | null
  readonly modelPath: string
  /** null = a directory in the host's own data. */
  readonly store: string | null
  readonly storeEndpoint: string | null
  readonly device: 'cpu' | 'cuda'
  /** Of a pod; 0 = none. */
  readonly gpus: number
  readonly slots: number
  readonly sequences: number
  readonly drainS: number
}

const storePlace = z.union([z.string().regex(/^s3:\/\/[a-z0-9][a-z0-9./-]+$/), absolutePath])

/** Throws `usage`, naming the flag. */
export function readHostPlan(flags: Flags, target: ServiceTarget): HostPlan {
  const service = readServicePlan(flags, DEFAULTS)
  const device = checkedFlag(flags, 'device', z.enum(['cpu', 'cuda']), 'is cpu or cuda') ?? 'cuda'
  const store = checkedFlag(flags, 'store', storePlace, 'is s3://bucket/prefix or a path') ?? null
  const isAlone = target === 'systemd'
  if (target === 'kubernetes' && !store?.startsWith('s3://')) {
    const fix = 'Name a bucket: --store s3://bucket/prefix'
    throw new CliError('usage', 'pods need a store that all of them reach', fix)
  }
  const url = checkedFlag(flags, 'url', httpUrl, 'is an http or https URL') ?? null
  if (isAlone && url === null) flags.requiredText('url')
  return {
    ...service,
    edgeUrls: readEdgeUrls(flags, service, target),
    url,
    modelPath:
      checkedFlag(flags, 'model', absolutePath, 'is an absolute path') ??
      (isAlone ? '/var/lib/nozzle/models/base.gguf' : `${CONTAINER_MODELS}/base.gguf`),
    store,
    storeEndpoint:
      checkedFlag(flags, 'store-endpoint', httpUrl, 'is an http or https URL') ??
      (target === 'docker' && store === null ? 'http://store:8333' : null),
    device,
    gpus: flags.integer('gpus', 0, 64) ?? (device === 'cuda' ? 1 : 0),
    slots: flags.integer('slots', 1, 1024) ?? 16,
    sequences: flags.integer('sequences', 1, 4096) ?? 16,
    drainS: flags.integer('drain-s', 0, 3600) ?? 120,
  }
}

function readEdgeUrls(flags: Flags, { namespace }: ServicePlan, target: ServiceTarget): string[] {
  const given = flags.text('edge-url')
  if (given === undefined && target === 'docker') return ['http://edge:8787']
  if (given === undefined && target === 'kubernetes') return [`http://nozzle-edge.${namespace}`]
  const list = flags.requiredText('edge-url').split(',')
  return list.map((text) =>
    checkedText('edge-url', text.trim(), httpUrl, 'is a list of http or https URLs'),
  )
}

export interface HostPlace {
  readonly dataDir: string
  /** null = set elsewhere. */
  readonly url: string | null
  /** null = in the data directory. */
  readonly store: string | null
}

/** What is true of each host of the plan. The journal in the data directory is the host's own. */
export function toHostSettings(plan: HostPlan, place: HostPlace): Setting[] {
  const settings: (Setting | null)[] = [
    {
      name: 'NOZZLE_EDGE_URL',
      value: plan.edgeUrls.join(','),
      why: 'Edges that hear of this host each second; usage goes to one that answers.',
    },
    {
      name: 'NOZZLE_HOST_ADDRESS',
      value: '0.0.0.0',
      why: 'Only /healthz and /metrics answer without a grant signed with the pool secret.',
    },
    { name: 'NOZZLE_HOST_PORT', value: String(plan.port), why: 'Where edges reach it.' },
    place.url === null
      ? null
      : { name: 'NOZZLE_HOST_URL', value: place.url, why: 'The same, as edges see it.' },
    {
      name: 'NOZZLE_DATA_DIR',
      value: place.dataDir,
      why: 'Journal of usage that is not yet acknowledged (keep it!), and the disk tier.',
    },
    { name: 'NOZZLE_BASE_MODEL_PATH', value: plan.modelPath, why: 'The GGUF, read only.' },
    {
      name: 'NOZZLE_BASE_MODEL_NAME',
      value: plan.baseModelName,
      why: "The pool's: hosts of another base model are another pool.",
    },
    place.store === null
      ? null
      : { name: 'NOZZLE_STORE', value: place.store, why: 'Adapter packs, of all hosts together.' },
    plan.storeEndpoint === null
      ? null
      : {
          name: 'NOZZLE_STORE_ENDPOINT',
          value: plan.storeEndpoint,
          why: 'Clients that upload past the edge must reach the same one.',
        },
    {
      name: 'NOZZLE_DEVICE',
      value: plan.device,
      why: 'Not auto: a host that finds no GPU shall fail and say so, not crawl.',
    },
    { name: 'NOZZLE_SLOTS', value: String(plan.slots), why: 'Adapters at once in the engine.' },
    {
      name: 'NOZZLE_SEQUENCES',
      value: String(plan.sequences),
      why: 'Requests that run at once; more wait in fair queues.',
    },
    {
      name: 'NOZZLE_DRAIN_GRACE_MS',
      value: String(plan.drainS * 1000),
      why: `On SIGTERM streams have so long to end; what stops it must wait ${STOP_SLACK_S} s longer.`,
    },
  ]
  return settings.filter((setting) => setting !== null)
}

/** A host holds no database credential and no key of a tenant. */
export function hostSecrets(hasBucket: boolean): SecretName[] {
  const pool: SecretName = {
    name: 'NOZZLE_POOL_SECRET',
    why: "the edges' own; signs every call between them",
  }
  if (!hasBucket) return [pool]
  return [
    pool,
    { name: 'NOZZLE_STORE_ACCESS_KEY_ID', why: 'of the bucket' },
    { name: 'NOZZLE_STORE_SECRET_ACCESS_KEY', why: 'of the bucket' },
  ]
}
