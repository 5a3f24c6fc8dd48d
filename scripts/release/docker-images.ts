/** The images of a host and of an edge, and what they leave out of the build's context. */

import { formatDockerfile, type Instruction } from './dockerfile.ts'
import type { ServicePlan } from './release-flags.ts'
import type { ReleaseFile } from './setting.ts'

const NODE_IMAGE = 'node:24-bookworm-slim'
/** With libcudart and libcublas, which ggml's library is linked with. */
const CUDA_IMAGE = 'nvidia/cuda:12.8.1-runtime-ubuntu22.04'
export const CONTAINER_USER = 10001
const ROOT = '/opt/nozzle'

const COPY_PACKAGES: readonly Instruction[] = [
  { kind: 'WORKDIR', value: ROOT },
  {
    kind: 'COPY',
    why: 'Packages first: they change less often than the sources.',
    paths: ['package.json', 'package-lock.json', '.npmrc', './'],
  },
  { kind: 'RUN', steps: ['npm ci --omit=dev --include=optional'] },
]

function aptInstall(packages: readonly string[], why: string): Instruction {
  return {
    kind: 'RUN',
    why: `${why}\nVersions are the distribution's: pinned ones vanish from its mirrors.`,
    ignore: 'DL3008',
    steps: [
      'apt-get update',
      `apt-get install -y --no-install-recommends ${packages.join(' ')}`,
      'rm -rf /var/lib/apt/lists/*',
    ],
  }
}

export function hostImageFiles(device: 'cpu' | 'cuda', port: number): ReleaseFile[] {
  const isCuda = device === 'cuda'
  const build: Instruction[] = isCuda
    ? [
        {
          kind: 'FROM',
          image: NODE_IMAGE,
          as: 'node',
          why: 'npm, for the build below.',
        },
        {
          kind: 'FROM',
          image: CUDA_IMAGE,
          as: 'build',
          why: "The engine is built where it runs: its CUDA library must match the runtime's release.",
        },
        { kind: 'COPY', from: 'node', paths: ['/usr/local/bin/node', '/usr/local/bin/'] },
        {
          kind: 'COPY',
          from: 'node',
          paths: ['/usr/local/lib/node_modules', '/usr/local/lib/node_modules'],
        },
        {
          kind: 'RUN',
          steps: ['ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm'],
        },
      ]
    : [
        {
          kind: 'FROM',
          image: NODE_IMAGE,
          as: 'build',
          why: 'Builds the engine; nothing of it but the result is kept.',
        },
      ]
  return [
    imageFile(
      'host',
      [
        'Image of a Nozzle host. Build it from the root of the checkout:',
        `  docker build -f Dockerfile.host -t nozzle-host .`,
        'The base model is not in it: mount it read-only, so that all hosts of a machine share it.',
      ],
      [
        ...build,
        aptInstall(
          ['ca-certificates', 'cmake', 'g++', 'git', 'make'],
          'What the engine is built with.',
        ),
        ...COPY_PACKAGES,
        { kind: 'COPY', paths: ['.', './'] },
        {
          kind: 'RUN',
          steps: [
            `node_modules/.bin/node scripts/task.ts nozzle release prepare --device ${device}`,
          ],
        },
        {
          kind: 'FROM',
          image: isCuda ? CUDA_IMAGE : NODE_IMAGE,
          why: 'No compiler and no npm in what runs.',
        },
        aptInstall(
          ['ca-certificates', 'libgomp1'],
          'For HTTPS to edges and bucket; OpenMP for the engine.',
        ),
        ...runtime('host', port, ['node_modules/.bin/node', 'gpu-host/index.ts'], 600, [
          ROOT,
          '/var/lib/nozzle-host',
        ]),
      ],
    ),
    ignoreFile('host'),
  ]
}

export function edgeImageFiles({ port }: ServicePlan): ReleaseFile[] {
  return [
    imageFile(
      'edge',
      [
        'Image of a Nozzle edge. Build it from the root of the checkout:',
        `  docker build -f Dockerfile.edge -t nozzle-edge .`,
      ],
      [
        {
          kind: 'FROM',
          image: NODE_IMAGE,
          as: 'build',
          why: 'Packages alone; an edge has no engine.',
        },
        ...COPY_PACKAGES,
        { kind: 'COPY', paths: ['.', './'] },
        { kind: 'FROM', image: NODE_IMAGE, why: 'What runs.' },
        ...runtime('edge', port, ['node_modules/.bin/node', 'edge/node.ts'], 60, [ROOT]),
      ],
    ),
    ignoreFile('edge'),
  ]
}

function runtime(
  service: 'host' | 'edge',
  port: number,
  command: readonly string[],
  startS: number,
  [root = ROOT, data]: readonly string[],
): Instruction[] {
  const ask = `fetch('http://127.0.0.1:${port}/healthz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))`
  return [
    { kind: 'WORKDIR', value: root },
    { kind: 'COPY', from: 'build', paths: [root, './'] },
    ...(data === undefined
      ? []
      : ([
          {
            kind: 'RUN',
            why: 'Data outlives the container: mount a volume here.',
            steps: [`install -d -m 700 -o ${CONTAINER_USER} -g ${CONTAINER_USER} ${data}`],
          },
          { kind: 'VOLUME', args: [data] },
        ] as const)),
    {
      kind: 'USER',
      why: 'By number, so that Kubernetes can tell that it is not root.',
      value: `${CONTAINER_USER}:${CONTAINER_USER}`,
    },
    { kind: 'EXPOSE', port },
    {
      kind: 'HEALTHCHECK',
      why: service === 'host' ? '503 while it drains.' : '503 when it can serve nobody.',
      everyS: 10,
      startS,
      args: ['node_modules/.bin/node', '-e', ask],
    },
    {
      kind: 'CMD',
      why: 'Without a shell between, so that SIGTERM reaches it and drains.',
      args: command,
    },
  ]
}

function imageFile(
  service: string,
  head: readonly string[],
  steps: readonly Instruction[],
): ReleaseFile {
  return { path: `Dockerfile.${service}`, text: formatDockerfile(head, steps) }
}

/** Beside its Dockerfile, where BuildKit looks first. */
function ignoreFile(service: string): ReleaseFile {
  const lines = [
    '# What an image is not built from: secrets, data, and what belongs to the machine.',
    '.git',
    'node_modules',
    'native/build',
    '.cache',
    '.nozzle',
    '.wrangler',
    '**/*.env',
    'bench/results',
  ]
  return { path: `Dockerfile.${service}.dockerignore`, text: `${lines.join('\n')}\n` }
}
