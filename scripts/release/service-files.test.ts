/** Generated files against the code that reads them, and against the ecosystem's own linters. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { z } from 'zod'
import { readEdgeConfig } from '../../edge/config.ts'
import { readConfig } from '../../gpu-host/config.ts'
import { EDGE_STOP_S } from './edge-plan.ts'
import { STOP_SLACK_S } from './host-plan.ts'
import { complaintsOf, findLintTools, unitComplaints } from './test/lint-tools.ts'
import { RELEASES, WrittenRelease } from './test/written-release.ts'

const written = new Map<string, WrittenRelease>()
beforeAll(async () => {
  for (const [name, argv] of Object.entries(RELEASES)) {
    const release = new WrittenRelease()
    written.set(name, release)
    await release.write(argv)
    await release.write(['secrets'], SECRETS)
  }
})
afterAll(() => {
  for (const release of written.values()) release.remove()
})

const SECRETS = {
  NOZZLE_DATABASE_URL: 'postgres://nozzle:secret@db.example.com:5432/nozzle?sslmode=require',
  NOZZLE_STORE_ACCESS_KEY_ID: 'key-id',
  NOZZLE_STORE_SECRET_ACCESS_KEY: 'key/secret+=',
}

function releaseOf(name: string): WrittenRelease {
  const release = written.get(name)
  if (release === undefined) throw new Error(`${name} was not written`)
  return release
}

const source = (path: string): string =>
  readFileSync(join(import.meta.dirname, '..', '..', path), 'utf8')
const namesIn = (text: string): string[] => text.match(/\bNOZZLE_[A-Z_]+[A-Z]/g) ?? []
const millis = (text: string, name: string): number =>
  Number(new RegExp(`${name} = ([\\d_]+)`).exec(text)?.[1]?.replaceAll('_', ''))

interface Manifest {
  readonly kind: string
  readonly data: Record<string, string>
}
const manifestForm = z.object({
  kind: z.string(),
  data: z.record(z.string(), z.string()).default({}),
})

function manifests(release: WrittenRelease): Manifest[] {
  return release
    .names()
    .filter((name) => name.endsWith('.yaml'))
    .flatMap((name) => parseAllDocuments(release.read(name)).map((doc) => doc.toJS()))
    .map((value) => manifestForm.parse(value))
}

describe('what is generated', () => {
  it.each(Object.keys(RELEASES))('%s: names only settings that there are', (name) => {
    const release = releaseOf(name)
    const known = new Set(
      ['edge/config.ts', 'gpu-host/config.ts', 'gpu-host/vllm/vllm-settings.ts'].flatMap((path) =>
        namesIn(source(path)),
      ),
    )
    // Named in comments alone, as the variable of the operator's own shell.
    known.add('NOZZLE_API_KEY')
    const texts = release.names().map((file) => release.read(file))
    const names = texts.flatMap(namesIn)
    expect(names.length).toBeGreaterThan(4)
    expect(names.filter((name) => !known.has(name))).toEqual([])
  })

  it.each([
    ['host systemd', 45, 'https://s3.example.com'],
    ['host docker', 120, 'http://store:8333'],
  ])('%s: a host understands its environment', (name, drainS, endpoint) => {
    const release = releaseOf(name)
    const env = release.environment('nozzle-host.env', 'nozzle-host.secrets.env')
    const config = readConfig(env)
    expect(config).toMatchObject({
      drainGraceMs: drainS * 1000,
      engine: { modelName: 'tiny', slotCount: 16 },
      store: { kind: 's3', s3: { endpoint } },
    })
    expect(Object.keys(env)).not.toContain('NOZZLE_DATABASE_URL')
    expect(Object.keys(env)).not.toContain('NOZZLE_KEY_PEPPER')
  })

  it.each(['edge systemd', 'edge docker'])('%s: an edge understands its environment', (name) => {
    const env = releaseOf(name).environment('nozzle-edge.env', 'nozzle-edge.secrets.env')
    expect(readEdgeConfig(env)).toMatchObject({
      baseModel: 'tiny',
      port: 8787,
      address: '0.0.0.0',
      databaseUrl: SECRETS.NOZZLE_DATABASE_URL,
    })
  })

  it('pods get the same settings, and their own name in the Service', () => {
    const host = releaseOf('host kubernetes')
    const [config] = manifests(host).filter(({ kind }) => kind === 'ConfigMap')
    const secrets = host.environment('nozzle-host.secrets.env')
    const env = { ...config?.data, ...secrets, NOZZLE_HOST_URL: 'http://nozzle-host-0.nozzle-host' }
    expect(readConfig(env)).toMatchObject({ port: 8790, edgeUrls: ['http://nozzle-edge.nozzle'] })
    const edge = releaseOf('edge kubernetes')
    const [edgeConfig] = manifests(edge).filter(({ kind }) => kind === 'ConfigMap')
    const edgeEnv = { ...edgeConfig?.data, ...edge.environment('nozzle-edge.secrets.env') }
    expect(readEdgeConfig(edgeEnv)).toMatchObject({ baseModel: 'tiny' })
  })

  it('holds no secret outside the files of secrets', () => {
    for (const release of written.values()) {
      const files = release.names()
      const secrets = files.filter((name) => name.endsWith('.secrets.env'))
      const values = secrets.flatMap((name) => Object.values(release.environment(name)))
      const others = files.filter((name) => !secrets.includes(name))
      for (const name of others) {
        for (const value of values) expect(release.read(name)).not.toContain(value)
      }
    }
  })

  it('is stopped later than a host or an edge needs to stop', () => {
    const slackMs = millis(source('gpu-host/host-process.ts'), 'EXIT_SLACK_MS')
    expect(STOP_SLACK_S * 1000).toBeGreaterThan(slackMs)
    const edge = source('edge/node.ts')
    const edgeMs = millis(edge, 'STREAM_GRACE_MS') + millis(edge, 'EXIT_SLACK_MS')
    expect(EDGE_STOP_S * 1000).toBeGreaterThan(edgeMs)
    expect(releaseOf('host systemd').read('nozzle-host.service')).toContain(
      `TimeoutStopSec=${45 + STOP_SLACK_S}\n`,
    )
    const pod = releaseOf('host kubernetes').read('nozzle-host.statefulset.yaml')
    expect(pod).toContain(`terminationGracePeriodSeconds: ${120 + STOP_SLACK_S}\n`)
  })

  it('scales by metrics that there are', () => {
    const metricOf = (release: WrittenRelease, service: string): string => {
      const text = release.read(`${service}.horizontalpodautoscaler.yaml`)
      return /metric:\n\s+name: (\w+)/.exec(text)?.[1] ?? ''
    }
    const host = metricOf(releaseOf('host kubernetes'), 'nozzle-host')
    expect(source('gpu-host/telemetry/metric-gauges.ts')).toContain(`'${host}'`)
    const edge = metricOf(releaseOf('edge kubernetes'), 'nozzle-edge')
    expect(source('edge/metrics.ts')).toContain(`'${edge}'`)
  })
})

const systemd = complaintsOf('systemd-analyze', ['--version'])

describe.skipIf(systemd !== '')('systemd', () => {
  it.each(['host', 'edge'])('finds nothing to say against the unit of the %s', (service) => {
    const release = releaseOf(`${service} systemd`)
    const unit = release.path(`nozzle-${service}.service`)
    expect(unitComplaints(unit)).toEqual([])
    // Of 100; what is left is what Node, a network and a GPU need.
    const args = ['security', '--offline=true', '--threshold=20', '--no-pager', unit]
    expect(complaintsOf('systemd-analyze', args)).toBe('')
  })

  it('would say so', () => {
    const release = releaseOf('edge systemd')
    const wrong = release.path('wrong.service')
    const text = release.read('nozzle-edge.service').replace('ProtectSystem', 'ProtectSytem')
    writeFileSync(wrong, text.replaceAll(/^(NoNewPrivileges|CapabilityBoundingSet)=.*$/gm, ''))
    expect(unitComplaints(wrong)).toEqual([expect.stringContaining('ProtectSytem')])
    const args = ['security', '--offline=true', '--threshold=20', '--no-pager', wrong]
    expect(complaintsOf('systemd-analyze', args)).not.toBe('')
  })
})

const tools = findLintTools()
const missing = 'missing' in tools ? tools.missing : ''
if (missing !== '') process.stderr.write(`linters are missing: ${missing}\n`)

describe.skipIf('missing' in tools)('linters', () => {
  it.each([
    ['host docker', 'Dockerfile.host'],
    ['host docker cuda', 'Dockerfile.host'],
    ['edge docker', 'Dockerfile.edge'],
  ])('hadolint: %s', (name, file) => {
    if ('missing' in tools) return
    expect(complaintsOf(tools.hadolint, [releaseOf(name).path(file)])).toBe('')
  })

  it.each(['host kubernetes', 'edge kubernetes'])('the schemas of Kubernetes: %s', (name) => {
    if ('missing' in tools) return
    const release = releaseOf(name)
    const files = release.names().filter((file) => /^nozzle-.*\.yaml$/.test(file))
    expect(files.length).toBeGreaterThan(5)
    const paths = files.map((file) => release.path(file))
    expect(complaintsOf(tools.kubernetesValidate, ['--strict', '--quiet', ...paths])).toBe('')
  })
})
