/** A host or an edge as a systemd service: its unit, its settings, the names of its secrets. */
import { EDGE_SECRETS, EDGE_STOP_S, type EdgePlan, toEdgeSettings } from './edge-plan.ts'
import { formatSecretNames, formatSettings } from './env-file.ts'
import { confine } from './hardening.ts'
import { type HostPlan, hostSecrets, STOP_SLACK_S, toHostSettings } from './host-plan.ts'
import type { ReleaseFile, SecretName, Setting } from './setting.ts'
import { type DirectiveGroup, formatUnit } from './unit-file.ts'

const SETTINGS_FOLDER = '/etc/nozzle'
const STATE_PARENT = '/var/lib'
const HOST_STATE = 'nozzle-host'

interface Service {
  readonly name: 'nozzle-host' | 'nozzle-edge'
  readonly title: string
  /** Below the root. */
  readonly entry: string
  readonly root: string
  readonly settings: readonly Setting[]
  readonly secrets: readonly SecretName[]
  readonly stopS: number
  /** Codes after which a new start would fail, or do harm. */
  readonly finalExitCodes: string
  readonly finalExitWhy: string
  readonly stateGroup: DirectiveGroup | null
  readonly confinement: Parameters<typeof confine>[0]
}

export function systemdHostFiles(plan: HostPlan): ReleaseFile[] {
  return serviceFiles({
    name: 'nozzle-host',
    title: 'Nozzle host',
    entry: 'gpu-host/index.ts',
    root: plan.root,
    settings: toHostSettings(plan, {
      dataDir: `${STATE_PARENT}/${HOST_STATE}`,
      url: plan.url,
      store: plan.store,
    }),
    secrets: hostSecrets(plan.store?.startsWith('s3://') ?? false),
    stopS: plan.drainS + STOP_SLACK_S,
    finalExitCodes: '2 4',
    finalExitWhy:
      '2 = its settings are at fault, 4 = another host has its id: trying again cannot help.',
    stateGroup: {
      why: 'Kept over restarts: the journal of usage, and adapters on disk.',
      directives: [
        ['StateDirectory', HOST_STATE],
        ['StateDirectoryMode', '0700'],
        // A store in a directory is shared with other hosts of the machine.
        ...(plan.store?.startsWith('/') ? [['ReadWritePaths', plan.store] as const] : []),
      ],
    },
    confinement: {
      port: plan.port,
      networks: plan.networks,
      hasGpu: plan.device === 'cuda',
      memoryGib: plan.memoryGib,
      tasksMax: 1024,
    },
  })
}

export function systemdEdgeFiles(plan: EdgePlan): ReleaseFile[] {
  return serviceFiles({
    name: 'nozzle-edge',
    title: 'Nozzle edge',
    entry: 'edge/node.ts',
    root: plan.root,
    settings: toEdgeSettings(plan, '0.0.0.0'),
    secrets: EDGE_SECRETS,
    stopS: EDGE_STOP_S,
    finalExitCodes: '2',
    finalExitWhy: '2 = its settings are at fault: trying again cannot help.',
    stateGroup: null,
    confinement: {
      port: plan.port,
      networks: plan.networks,
      hasGpu: false,
      memoryGib: plan.memoryGib,
      tasksMax: 256,
    },
  })
}

function serviceFiles(service: Service): ReleaseFile[] {
  const { name, title } = service
  return [
    { path: `${name}.service`, text: formatService(service) },
    { path: `${name}.env`, text: formatSettings(`${title}: settings.`, service.settings) },
  ]
}

function formatService(service: Service): string {
  const { name, title, root, stopS } = service
  const settings = `${SETTINGS_FOLDER}/${name}.env`
  const secrets = `${SETTINGS_FOLDER}/${name}.secrets.env`
  const head = [
    `${title}, under systemd. To install, as root:`,
    `  install -D -m 644 ${name}.env ${settings}`,
    `  install -D -m 600 ${name}.secrets.env ${secrets}`,
    `  install -m 644 ${name}.service /etc/systemd/system/`,
    `  systemctl daemon-reload && systemctl enable --now ${name}`,
    `${secrets}, as \`nozzle release secrets\` makes it, holds:`,
    ...formatSecretNames(service.secrets),
  ]
  return formatUnit(head, [
    {
      name: 'Unit',
      groups: [
        {
          why: 'Written by `nozzle release`: change its flags rather than this file.',
          directives: [
            ['Description', title],
            ['Documentation', `file:${root}/docs/self-hosting.md`],
          ],
        },
        {
          why: 'Names must resolve and peers be reachable before it makes sense to start.',
          directives: [
            ['Wants', 'network-online.target'],
            ['After', 'network-online.target'],
          ],
        },
      ],
    },
    {
      name: 'Service',
      groups: [
        {
          why: 'systemd reads both as root; the service itself cannot read the second.',
          directives: [
            ['EnvironmentFile', settings],
            ['EnvironmentFile', secrets],
          ],
        },
        {
          why: `The pinned Node of the checkout, so that the machine's own does not matter.`,
          directives: [
            ['Type', 'exec'],
            ['WorkingDirectory', root],
            ['ExecStart', `${root}/node_modules/.bin/node ${root}/${service.entry}`],
          ],
        },
        {
          why: `Back after every end, but: ${service.finalExitWhy}`,
          directives: [
            ['Restart', 'always'],
            ['RestartSec', '2'],
            ['RestartPreventExitStatus', service.finalExitCodes],
          ],
        },
        {
          why: 'SIGTERM drains: no new requests, streams end, usage is reported. Killed only after that.',
          directives: [
            ['KillMode', 'mixed'],
            ['TimeoutStopSec', String(stopS)],
          ],
        },
        ...(service.stateGroup === null ? [] : [service.stateGroup]),
        ...confine(service.confinement),
      ],
    },
    {
      name: 'Install',
      groups: [{ why: 'With the machine.', directives: [['WantedBy', 'multi-user.target']] }],
    },
  ])
}
