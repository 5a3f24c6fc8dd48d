/** `nozzle release`: what runs a pool for good, as files; its secrets, migrations and engine. */
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import { callerPath } from '../lib/caller-path.ts'
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import { writePrivateFile } from '../lib/data-dir.ts'
import { DRY_RUN_FLAG } from '../lib/edge-target.ts'
import {
  CLOUDFLARE_FLAGS,
  pickWorkerSecrets,
  readCloudflarePlan,
} from '../release/cloudflare-plan.ts'
import { describeRelease, releaseWorker } from '../release/cloudflare-release.ts'
import { dockerEdgeFiles, dockerHostFiles } from '../release/compose-file.ts'
import { EDGE_RELEASE_FLAGS, type EdgePlan, readEdgePlan } from '../release/edge-plan.ts'
import { HOST_FLAGS, type HostPlan, readHostPlan } from '../release/host-plan.ts'
import { kubernetesEdgeFiles } from '../release/kubernetes-edge.ts'
import { kubernetesHostFiles } from '../release/kubernetes-host.ts'
import { migrateDatabase } from '../release/migrate-database.ts'
import { deliverFiles } from '../release/release-files.ts'
import {
  HOST_TARGET_FLAG,
  OUTPUT_FLAGS,
  readTarget,
  SERVICE_FLAGS,
} from '../release/release-flags.ts'
import { createReleaseSecrets } from '../release/release-secrets.ts'
import { type ReleaseFile, SERVICE_TARGETS, type ServiceTarget } from '../release/setting.ts'
import { systemdEdgeFiles, systemdHostFiles } from '../release/systemd-files.ts'
import { DEVICES, prepareDevice, prepareNative } from '../setup/prepare.ts'

const HOST_WRITERS: Readonly<Record<ServiceTarget, (plan: HostPlan) => ReleaseFile[]>> = {
  systemd: systemdHostFiles,
  docker: dockerHostFiles,
  kubernetes: kubernetesHostFiles,
}

const EDGE_WRITERS: Readonly<Record<ServiceTarget, (plan: EdgePlan) => ReleaseFile[]>> = {
  systemd: systemdEdgeFiles,
  docker: dockerEdgeFiles,
  kubernetes: kubernetesEdgeFiles,
}

const host: Command = {
  name: 'release host',
  summary: 'write what runs a host for good: unit, image or manifests',
  positionals: [],
  flags: { ...HOST_TARGET_FLAG, ...HOST_FLAGS, ...SERVICE_FLAGS, ...OUTPUT_FLAGS },
  details:
    'Each file explains itself. Nothing is started, and no secret is written: `nozzle release secrets`\n' +
    'makes those. docs/self-hosting.md says how to go on.',
  examples: [
    'nozzle release host --target systemd --base-model-name llama-3.1-8b \\\n' +
      '    --edge-url https://api.example.com --url http://10.0.0.7:8790 --store s3://packs/pool --out deploy',
    'nozzle release host --target docker --base-model-name llama-3.1-8b --out .',
    'nozzle release host --target kubernetes --base-model-name llama-3.1-8b --store s3://packs/pool',
  ],
  async run(call) {
    const target = readTarget(call.flags, SERVICE_TARGETS)
    deliverFiles(call, HOST_WRITERS[target](readHostPlan(call.flags, target)))
  },
}

const edge: Command = {
  name: 'release edge',
  summary: 'release the Worker, or write what runs an edge elsewhere',
  positionals: [],
  flags: {
    target: {
      type: 'string',
      value: 'way',
      help: `cloudflare (default), ${SERVICE_TARGETS.join(', ')}`,
    },
    ...EDGE_RELEASE_FLAGS,
    ...CLOUDFLARE_FLAGS,
    ...DRY_RUN_FLAG,
    ...SERVICE_FLAGS,
    ...OUTPUT_FLAGS,
  },
  details:
    'cloudflare: migrations, then code, settings and secrets as one version, then a smoke test; when\n' +
    'that fails the version before serves again. Secrets go by file, never by argument or into a log.\n' +
    'docs/cloudflare.md says what it needs. Elsewhere files are written that explain themselves, without\n' +
    'a secret, and nothing is started: docs/self-hosting.md.',
  examples: [
    'nozzle release edge --base-model-name llama-3.1-8b --secrets nozzle-edge.secrets.env --dry-run',
    'nozzle release edge --target systemd --base-model-name llama-3.1-8b \\\n' +
      '    --public-url https://api.example.com --out deploy',
    'nozzle release edge --target docker --base-model-name llama-3.1-8b --out .',
  ],
  async run(call) {
    if ((call.flags.text('target') ?? 'cloudflare') === 'cloudflare')
      return releaseToCloudflare(call)
    const target = readTarget(call.flags, ['cloudflare', ...SERVICE_TARGETS])
    if (target !== 'cloudflare') deliverFiles(call, EDGE_WRITERS[target](readEdgePlan(call.flags)))
  },
}

async function releaseToCloudflare(call: CommandCall): Promise<void> {
  const plan = readCloudflarePlan(call.flags)
  const secrets = pickWorkerSecrets(readSecretsFile(call))
  if (call.flags.isSet('dry-run')) {
    const steps = describeRelease(plan)
    const names = Object.keys(secrets)
    const lines = steps.map(({ step, does }) => `${step.padEnd(10)}  ${does}`)
    const value = { dry_run: true, steps, secrets: names }
    call.output.data(value, [...lines, `secrets     ${names.join(', ')}`].join('\n'))
    return
  }
  const { versionId, url, previous } = await releaseWorker(call, plan, secrets)
  const value = { version_id: versionId, url, previous_version_id: previous }
  call.output.data(value, `version ${versionId} serves at ${url}`)
}

/** Throws `not_found`. */
function readSecretsFile(call: CommandCall): NodeJS.Dict<string> {
  const path = callerPath(call, call.flags.requiredText('secrets'))
  try {
    return parseEnv(readFileSync(path, 'utf8'))
  } catch {
    const fix = '`nozzle release secrets --out .` writes nozzle-edge.secrets.env.'
    throw new CliError('not_found', `--secrets ${path} cannot be read`, fix)
  }
}

const secrets: Command = {
  name: 'release secrets',
  summary: 'make the secrets of a pool, a file for each service',
  positionals: [],
  flags: { out: { type: 'string', value: 'dir', help: 'where; never overwrites one' } },
  details:
    'Readable by you alone, and never printed. NOZZLE_DATABASE_URL, NOZZLE_STORE_ACCESS_KEY_ID and\n' +
    'NOZZLE_STORE_SECRET_ACCESS_KEY are taken from the environment; without them they are those of the\n' +
    'PostgreSQL and the store that compose.*.yaml starts.',
  examples: ['nozzle release secrets --out .', 'nozzle release secrets --out deploy --json'],
  async run(call) {
    const folder = callerPath(call, call.flags.requiredText('out'))
    const files = await createReleaseSecrets(call.env)
    const present = files.filter(({ path }) => existsSync(join(folder, path)))
    if (present.length > 0) {
      const names = present.map(({ path }) => path).join(', ')
      const fix = 'Keep them: new ones would lock every key and host out. Or name another folder.'
      throw new CliError('refused', `${folder} has ${names} already`, fix)
    }
    mkdirSync(folder, { recursive: true })
    const paths = files.map(({ path }) => join(folder, path))
    for (const { path, text } of files) writePrivateFile(join(folder, path), text)
    if (!call.env.NOZZLE_DATABASE_URL) {
      call.output.note(
        'without NOZZLE_DATABASE_URL the database is that of compose.edge.yaml alone',
      )
    }
    call.output.data({ files: paths }, paths.map((path) => `wrote  ${path}`).join('\n'))
  },
}

const migrate: Command = {
  name: 'release migrate',
  summary: 'bring the database of NOZZLE_DATABASE_URL up to this release',
  positionals: [],
  flags: {},
  details:
    'Safe beside edges that serve, and beside another one that migrates: they take turns. An edge on\n' +
    'Node does the same when it starts; a Worker cannot.',
  examples: ['NOZZLE_DATABASE_URL=postgres://… nozzle release migrate'],
  async run(call) {
    const url = call.env.NOZZLE_DATABASE_URL
    if (!url) throw new CliError('usage', 'NOZZLE_DATABASE_URL is needed', 'Set it: postgres://…')
    await migrateDatabase(url)
    call.output.data({ migrated: true }, 'the database is up to date')
  },
}

const prepare: Command = {
  name: 'release prepare',
  summary: 'build the engine and fetch what its device needs',
  positionals: [],
  flags: { device: { type: 'string', value: 'kind', help: `${DEVICES.join(', ')} (auto)` } },
  details: 'What an image is built with, and a machine before its unit is first started.',
  examples: ['nozzle release prepare --device cuda'],
  async run(call) {
    const asked = call.flags.text('device') ?? 'auto'
    const device = DEVICES.find((known) => known === asked)
    if (device === undefined) {
      throw new CliError('usage', `--device is one of ${DEVICES.join(', ')}, not "${asked}"`)
    }
    await prepareNative(call.output.note)
    prepareDevice(device, call.output.note)
    call.output.data({ prepared: true, device }, `ready to serve on ${device}`)
  },
}

export const releaseCommands: readonly Command[] = [host, edge, secrets, migrate, prepare]
