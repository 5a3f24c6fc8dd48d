/** compose files: an edge with its PostgreSQL, and a host with an S3-compatible store. */

import { CONTAINER_USER, edgeImageFiles, hostImageFiles } from './docker-images.ts'
import { EDGE_STOP_S, type EdgePlan, toEdgeSettings } from './edge-plan.ts'
import { formatSettings } from './env-file.ts'
import { CONTAINER_DATA, type HostPlan, STOP_SLACK_S, toHostSettings } from './host-plan.ts'
import type { ReleaseFile } from './setting.ts'
import { formatYaml } from './yaml-file.ts'

const POSTGRES_IMAGE = 'postgres:18-bookworm'
const STORE_IMAGE = 'chrislusf/seaweedfs:4.48'
/** Of the store that comes with a host. */
const BUCKET = 'nozzle'

/** The part of the compose specification that is used here. */
interface ComposeFile {
  readonly name: string
  readonly services: Readonly<Record<string, ComposeService>>
  readonly networks: Readonly<Record<string, { readonly name?: string; readonly internal?: true }>>
  readonly volumes?: Readonly<Record<string, Record<string, never>>>
}

interface ComposeService {
  readonly image: string
  readonly build?: { readonly context: string; readonly dockerfile: string }
  readonly command?: readonly string[]
  readonly env_file?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly ports?: readonly string[]
  readonly networks: readonly string[]
  readonly volumes?: readonly string[]
  readonly tmpfs?: readonly string[]
  readonly user?: string
  readonly read_only?: boolean
  readonly cap_drop?: readonly string[]
  readonly security_opt?: readonly string[]
  readonly init?: boolean
  readonly ulimits?: Readonly<Record<string, number>>
  readonly restart: 'unless-stopped'
  readonly stop_grace_period?: string
  readonly depends_on?: Readonly<Record<string, { readonly condition: 'service_healthy' }>>
  readonly healthcheck?: {
    readonly test: readonly string[]
    readonly interval: string
    readonly retries: number
  }
  readonly deploy?: {
    readonly resources: {
      readonly limits: { readonly memory: string; readonly pids?: number }
      readonly reservations?: {
        readonly devices: readonly {
          readonly driver: string
          readonly count: number
          readonly capabilities: readonly string[]
        }[]
      }
    }
  }
}

const CONFINED = {
  user: `${CONTAINER_USER}:${CONTAINER_USER}`,
  read_only: true,
  tmpfs: ['/tmp'],
  cap_drop: ['ALL'],
  security_opt: ['no-new-privileges:true'],
  // A core dump would hold prompts and secrets.
  ulimits: { core: 0 },
  restart: 'unless-stopped',
} as const

export function dockerEdgeFiles(plan: EdgePlan): ReleaseFile[] {
  const compose: ComposeFile = {
    name: 'nozzle',
    services: {
      edge: {
        image: plan.image,
        build: { context: '.', dockerfile: 'Dockerfile.edge' },
        env_file: ['nozzle-edge.env', 'nozzle-edge.secrets.env'],
        ports: [`127.0.0.1:${plan.port}:${plan.port}`],
        networks: ['pool', 'record'],
        ...CONFINED,
        stop_grace_period: `${EDGE_STOP_S}s`,
        depends_on: { database: { condition: 'service_healthy' } },
        deploy: { resources: { limits: { memory: `${plan.memoryGib}g`, pids: 256 } } },
      },
      database: {
        image: POSTGRES_IMAGE,
        env_file: ['nozzle-database.secrets.env'],
        environment: { POSTGRES_USER: 'nozzle', POSTGRES_DB: 'nozzle' },
        networks: ['record'],
        volumes: ['database:/var/lib/postgresql'],
        restart: 'unless-stopped',
        stop_grace_period: '60s',
        healthcheck: {
          test: ['CMD', 'pg_isready', '-U', 'nozzle', '-d', 'nozzle'],
          interval: '5s',
          retries: 12,
        },
      },
    },
    networks: { pool: { name: 'nozzle-pool' }, record: { internal: true } },
    volumes: { database: {} },
  }
  const head = [
    'A Nozzle edge and its PostgreSQL. In the root of the checkout, where this file lies:',
    '  nozzle release secrets --out .     writes the *.secrets.env once, readable by you alone',
    '  docker compose -f compose.edge.yaml up -d --build',
    'with hosts on the same machine: add -f compose.host.yaml',
  ]
  const text = formatYaml(head, compose, {
    'services.edge.env_file': 'Settings; secrets are in a file of their own.',
    'services.edge.ports': 'For a proxy on this machine that ends TLS.',
    'services.edge.read_only': 'It writes nothing; all that lasts is in the database.',
    'services.edge.stop_grace_period':
      'Streams end within 30 s of SIGTERM; then the database is closed.',
    'services.edge.depends_on':
      'An edge applies the migrations when it starts, one edge at a time.',
    'services.database.volumes': 'The only copy of all bills: back it up (pg_dump).',
    'networks.pool': 'Edges and hosts; hosts on other machines need the port published.',
    'networks.record': 'The database reaches nothing, and is reached by edges alone.',
  })
  return [
    { path: 'compose.edge.yaml', text },
    {
      path: 'nozzle-edge.env',
      text: formatSettings('Nozzle edge: settings.', toEdgeSettings(plan, '0.0.0.0')),
    },
    ...edgeImageFiles(plan),
  ]
}

export function dockerHostFiles(plan: HostPlan): ReleaseFile[] {
  const ownStore = plan.store === null
  const compose: ComposeFile = {
    name: 'nozzle',
    services: {
      host: {
        image: plan.image,
        build: { context: '.', dockerfile: 'Dockerfile.host' },
        env_file: ['nozzle-host.env', 'nozzle-host.secrets.env'],
        networks: ['pool'],
        volumes: [`host:${CONTAINER_DATA}`, './models:/models:ro'],
        ...CONFINED,
        stop_grace_period: `${plan.drainS + STOP_SLACK_S}s`,
        deploy: {
          resources: {
            limits: { memory: `${plan.memoryGib}g`, pids: 1024 },
            ...(plan.device === 'cuda' && {
              reservations: {
                devices: [
                  { driver: 'nvidia', count: Math.max(1, plan.gpus), capabilities: ['gpu'] },
                ],
              },
            }),
          },
        },
        ...(ownStore && { depends_on: { store: { condition: 'service_healthy' } } }),
      },
      ...(ownStore && { store: storeService() }),
    },
    networks: { pool: { name: 'nozzle-pool' } },
    volumes: { host: {}, ...(ownStore && { store: {} }) },
  }
  const head = [
    'A Nozzle host. In the root of the checkout, where this file lies, with the base model at',
    `  ./models/${plan.modelPath.split('/').at(-1) ?? ''}`,
    'and beside compose.edge.yaml, whose secrets are made with the same command:',
    '  docker compose -f compose.edge.yaml -f compose.host.yaml up -d --build',
  ]
  const text = formatYaml(head, compose, {
    'services.host.env_file': 'A host holds no database credential and no key of a tenant.',
    'services.host.volumes':
      'The journal of usage is in the first: never remove it while events wait.',
    'services.host.stop_grace_period': 'The drain, and what is reported after it.',
    ...(plan.device === 'cuda' && {
      'services.host.deploy.resources.reservations': 'Needs the NVIDIA container toolkit.',
    }),
    ...(ownStore && {
      'services.store': 'S3-compatible; any other does too: --store s3://… --store-endpoint URL.',
    }),
  })
  const settings = toHostSettings(plan, {
    dataDir: CONTAINER_DATA,
    url: plan.url ?? `http://host:${plan.port}`,
    store: plan.store ?? `s3://${BUCKET}/pool`,
  })
  return [
    { path: 'compose.host.yaml', text },
    { path: 'nozzle-host.env', text: formatSettings('Nozzle host: settings.', settings) },
    ...hostImageFiles(plan.device, plan.port),
  ]
}

function storeService(): ComposeService {
  return {
    image: STORE_IMAGE,
    command: ['mini', '-dir=/data', `-bucket=${BUCKET}`, '-s3.port=8333'],
    env_file: ['nozzle-store.secrets.env'],
    networks: ['pool'],
    volumes: ['store:/data'],
    restart: 'unless-stopped',
    healthcheck: {
      test: ['CMD', 'wget', '-q', '-O', '/dev/null', 'http://127.0.0.1:8333/healthz'],
      interval: '5s',
      retries: 12,
    },
  }
}
