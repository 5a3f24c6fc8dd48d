/**
 * Exactly what a host and an edge are allowed, on each target: the whole of it stands here, so that
 * a right that somebody adds fails a test until it is added here, too.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { z } from 'zod'
import { RELEASES, WrittenRelease } from './test/written-release.ts'

const NAMES = ['host systemd', 'edge systemd', 'host docker', 'edge docker'] as const
const PODS = ['host kubernetes', 'edge kubernetes'] as const
const written = new Map<string, WrittenRelease>()
beforeAll(async () => {
  for (const name of [...NAMES, ...PODS, 'host systemd open']) {
    const release = new WrittenRelease()
    written.set(name, release)
    await release.write(name === 'host systemd open' ? WITHOUT_PEERS : (RELEASES[name] ?? []))
  }
})
afterAll(() => {
  for (const release of written.values()) release.remove()
})

/** A host whose peers nobody named, and whose store is a directory. */
const WITHOUT_PEERS = [
  ...['host', '--target', 'systemd', '--base-model-name', 'tiny', '--device', 'cpu'],
  ...['--edge-url', 'http://127.0.0.1:8787', '--url', 'http://127.0.0.1:8790'],
  ...['--store', '/srv/packs'],
]

function read(release: string, file: string): string {
  const text = written.get(release)?.read(file)
  if (text === undefined) throw new Error(`${release} was not written`)
  return text
}

/** Directives of the section that says what runs, in their order. */
function directives(text: string): string[] {
  const [, service = ''] = text.split('[Service]')
  const [lines = ''] = service.split('[Install]')
  return lines.split('\n').filter((line) => /^[A-Z]/.test(line))
}

/** Those that say what it runs, and how it is stopped, rather than what it may. */
const OF_LIFE =
  /^(Type|WorkingDirectory|ExecStart|Restart|RestartSec|RestartPrevent|KillMode|Timeout)/

const KEPT_FROM = [
  ...['DynamicUser=yes', 'NoNewPrivileges=yes', 'CapabilityBoundingSet=', 'AmbientCapabilities='],
  ...['RestrictSUIDSGID=yes', 'UMask=0077', 'KeyringMode=private', 'RemoveIPC=yes'],
  ...['ProtectSystem=strict', 'ProtectHome=yes', 'PrivateTmp=yes', 'ProtectProc=invisible'],
  ...['ProtectKernelTunables=yes', 'ProtectKernelModules=yes', 'ProtectKernelLogs=yes'],
  ...['ProtectControlGroups=yes', 'ProtectClock=yes', 'ProtectHostname=yes'],
  ...['RestrictNamespaces=yes', 'RestrictRealtime=yes', 'LockPersonality=yes'],
  ...['SystemCallArchitectures=native', 'SystemCallFilter=@system-service'],
  ...['SystemCallFilter=~@privileged', 'SystemCallErrorNumber=EPERM'],
]
const FAMILIES = 'RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK'
const bounds = (memory: string, tasks: number): string[] => [
  ...[`MemoryMax=${memory}`, 'MemorySwapMax=0', `TasksMax=${tasks}`],
  ...['LimitNOFILE=65536', 'LimitCORE=0'],
]

describe('systemd allows', () => {
  const rights = (release: string, file: string): string[] =>
    directives(read(release, file)).filter((line) => !OF_LIFE.test(line))
  const files = (service: string): string[] => [
    `EnvironmentFile=/etc/nozzle/${service}.env`,
    `EnvironmentFile=/etc/nozzle/${service}.secrets.env`,
  ]

  it('a host its state, the GPU, its port, and the peers that were named', () => {
    expect(rights('host systemd', 'nozzle-host.service')).toEqual([
      ...files('nozzle-host'),
      ...['StateDirectory=nozzle-host', 'StateDirectoryMode=0700'],
      ...KEPT_FROM,
      ...['DevicePolicy=closed', 'DeviceAllow=char-nvidia* rw'],
      ...[FAMILIES, 'SocketBindDeny=any', 'SocketBindAllow=tcp:8790'],
      ...['IPAddressDeny=any', 'IPAddressAllow=localhost 10.0.0.0/8 192.0.2.53'],
      ...bounds('16G', 1024),
    ])
  })

  it('a host without a GPU no device, and a store in a directory to be written', () => {
    const text = read('host systemd open', 'nozzle-host.service')
    expect(rights('host systemd open', 'nozzle-host.service')).toEqual([
      ...files('nozzle-host'),
      ...['StateDirectory=nozzle-host', 'StateDirectoryMode=0700', 'ReadWritePaths=/srv/packs'],
      ...KEPT_FROM,
      'PrivateDevices=yes',
      ...[FAMILIES, 'SocketBindDeny=any', 'SocketBindAllow=tcp:8790'],
      ...bounds('16G', 1024),
    ])
    // Said to whoever installs it.
    expect(text).toContain('It may talk to anybody: write the\n# unit with --network')
  })

  it('an edge to write nothing, no device, and its port', () => {
    expect(rights('edge systemd', 'nozzle-edge.service')).toEqual([
      ...files('nozzle-edge'),
      ...KEPT_FROM,
      'PrivateDevices=yes',
      ...[FAMILIES, 'SocketBindDeny=any', 'SocketBindAllow=tcp:8787'],
      ...bounds('1G', 256),
    ])
  })
})

describe('compose allows', () => {
  const CONFINED = {
    user: '10001:10001',
    read_only: true,
    tmpfs: ['/tmp'],
    cap_drop: ['ALL'],
    security_opt: ['no-new-privileges:true'],
    ulimits: { core: 0 },
  }
  /** What is built and when, rather than what it may. */
  const LIFE = ['image', 'build', 'restart', 'stop_grace_period', 'depends_on', 'healthcheck']

  function rights(release: string, file: string, service: string): object {
    const { services } = composeFile.parse(parse(read(release, file)))
    const entries = Object.entries(services[service] ?? {})
    return Object.fromEntries(entries.filter(([name]) => !LIFE.includes(name)))
  }

  it('a host one volume, the models to be read, and the network of the pool', () => {
    expect(rights('host docker', 'compose.host.yaml', 'host')).toEqual({
      ...CONFINED,
      env_file: ['nozzle-host.env', 'nozzle-host.secrets.env'],
      networks: ['pool'],
      volumes: ['host:/var/lib/nozzle-host', './models:/models:ro'],
      deploy: { resources: { limits: { memory: '16g', pids: 1024 } } },
    })
  })

  it('an edge no volume, and a port of this machine alone', () => {
    expect(rights('edge docker', 'compose.edge.yaml', 'edge')).toEqual({
      ...CONFINED,
      env_file: ['nozzle-edge.env', 'nozzle-edge.secrets.env'],
      ports: ['127.0.0.1:8787:8787'],
      networks: ['pool', 'record'],
      deploy: { resources: { limits: { memory: '1g', pids: 256 } } },
    })
  })

  it('the database to be reached by edges alone, and to reach nobody', () => {
    const { networks } = composeFile.parse(parse(read('edge docker', 'compose.edge.yaml')))
    expect(networks).toEqual({ pool: { name: 'nozzle-pool' }, record: { internal: true } })
    expect(rights('edge docker', 'compose.edge.yaml', 'database')).toMatchObject({
      networks: ['record'],
    })
  })
})

/** The first object of a manifest. */
function manifest<T>(release: string, file: string, schema: z.ZodType<T>): T {
  const [document] = parseAllDocuments(read(release, file))
  return schema.parse(document?.toJS())
}

const podTemplate = z.object({
  spec: z.object({
    template: z.object({
      spec: z.looseObject({
        containers: z.array(z.record(z.string(), z.unknown())),
        volumes: z.array(z.record(z.string(), z.unknown())),
      }),
    }),
  }),
})
const anySpec = z.object({ spec: z.unknown() })
const composeFile = z.object({
  services: z.record(z.string(), z.record(z.string(), z.unknown())),
  networks: z.unknown(),
})

describe('Kubernetes allows', () => {
  const pod = (release: string, file: string) =>
    manifest(release, file, podTemplate).spec.template.spec
  const SECURITY = {
    runAsNonRoot: true,
    runAsUser: 10001,
    runAsGroup: 10001,
    fsGroup: 10001,
    fsGroupChangePolicy: 'OnRootMismatch',
    seccompProfile: { type: 'RuntimeDefault' },
  }
  const CONTAINER = {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
  }
  /** Names of the pod's own that give no right. */
  const NO_RIGHT = ['containers', 'volumes', 'tolerations', 'topologySpreadConstraints']

  it.each([
    ['host kubernetes', 'nozzle-host.statefulset.yaml', ['data', 'models', 'tmp']],
    ['edge kubernetes', 'nozzle-edge.deployment.yaml', ['tmp']],
  ] as const)('%s: no account, no privilege, and these volumes', (release, file, mounts) => {
    const { containers, ...spec } = pod(release, file)
    const rest = Object.entries(spec).filter(([name]) => !NO_RIGHT.includes(name))
    expect(Object.fromEntries(rest)).toEqual({
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      securityContext: SECURITY,
      terminationGracePeriodSeconds: expect.any(Number),
    })
    expect(containers).toHaveLength(1)
    const [container] = containers
    expect(container?.securityContext).toEqual(CONTAINER)
    expect(container?.volumeMounts).toEqual(mounts.map((name) => expect.objectContaining({ name })))
    const models = [{ name: 'models', mountPath: '/models', readOnly: true }]
    if (mounts.length > 1) expect(container?.volumeMounts).toEqual(expect.arrayContaining(models))
    expect(spec.volumes.flatMap((volume) => Object.keys(volume))).not.toContain('hostPath')
  })

  it('a host to be reached by edges and Prometheus, and to reach edges, names and HTTPS', () => {
    const { spec } = manifest('host kubernetes', 'nozzle-host.networkpolicy.yaml', anySpec)
    const edges = { podSelector: { matchLabels: { 'app.kubernetes.io/name': 'nozzle-edge' } } }
    const prometheus = {
      namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'monitoring' } },
    }
    expect(spec).toEqual({
      podSelector: { matchLabels: { 'app.kubernetes.io/name': 'nozzle-host' } },
      policyTypes: ['Ingress', 'Egress'],
      ingress: [{ from: [edges, prometheus], ports: [{ port: 8790, protocol: 'TCP' }] }],
      egress: [
        {
          ports: [
            { port: 53, protocol: 'UDP' },
            { port: 53, protocol: 'TCP' },
          ],
        },
        { to: [edges] },
        { ports: [{ port: 443, protocol: 'TCP' }] },
      ],
    })
  })
})

describe('the secrets of', () => {
  const SECRETS = {
    NOZZLE_DATABASE_URL: 'postgres://nozzle:secret@db.example.com/nozzle',
    NOZZLE_STORE_ACCESS_KEY_ID: 'key-id',
    NOZZLE_STORE_SECRET_ACCESS_KEY: 'key-secret',
  }

  it('a host are the pool’s and the bucket’s; an edge has the others, and no bucket', async () => {
    const release = new WrittenRelease()
    await release.write(['secrets'], SECRETS)
    const namesOf = (file: string): string[] => Object.keys(release.environment(file)).sort()
    expect(namesOf('nozzle-host.secrets.env')).toEqual([
      ...['NOZZLE_POOL_SECRET', 'NOZZLE_STORE_ACCESS_KEY_ID', 'NOZZLE_STORE_SECRET_ACCESS_KEY'],
    ])
    expect(namesOf('nozzle-edge.secrets.env')).toEqual([
      ...['NOZZLE_DATABASE_URL', 'NOZZLE_KEY_PEPPER', 'NOZZLE_OPERATOR_KEY', 'NOZZLE_POOL_SECRET'],
    ])
    release.remove()
  })
})
