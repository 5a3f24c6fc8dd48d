/**
 * First step of every npm script: runs on whatever Node (≥ 18) the machine has, installs the locked
 * packages when they are missing or out of date, then hands over to the pinned Node 24 that came
 * with them. Plain JavaScript without imports from node_modules, since nothing is installed yet.
 *
 * usage: node scripts/bootstrap.mjs <task> [arguments]
 */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
/** What has a package of its own in package-lock.json; elsewhere this Node must do. */
const hasPinnedNode = process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch)
const pinnedNode = hasPinnedNode ? join(root, 'node_modules', '.bin', 'node') : process.execPath
const NODE_MAJOR = 24
/** Tasks that run the product alone; all others need the development packages too. */
const PRODUCT_TASKS = ['start', 'nozzle']
/** Bytes that npm fetches with an empty cache on Linux x64, measured with npm 11. */
const DOWNLOAD_MB = { product: 156, all: 401 }

/** What npm wrote when it last finished; null = it never has. */
function readInstalled() {
  const path = join(root, 'node_modules', '.package-lock.json')
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')).packages : null
}

/** Against the lock file: true when nothing is to be done. */
function isComplete(installed, needsDevelopment) {
  if (!existsSync(pinnedNode) || installed === null) return false
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages
  return Object.entries(wanted).every(([path, { version, optional, dev }]) => {
    if (path === '') return true
    const found = installed[path]
    // npm leaves out optional packages of other platforms.
    if (!found) return optional || (dev && !needsDevelopment)
    return found.version === version
  })
}

/** `npm ci`, its output on stderr so that stdout stays the task's own. */
function install(needsDevelopment) {
  const megabytes = needsDevelopment ? DOWNLOAD_MB.all : DOWNLOAD_MB.product
  console.error(`nozzle: installing locked packages with npm (${megabytes} MB to download, once)`)
  const npm = process.env.npm_execpath
  const [command, ...first] = npm?.endsWith('.js') ? [process.execPath, npm] : ['npm']
  const args = ['ci', needsDevelopment ? '--include=dev' : '--omit=dev', '--include=optional']
  // Engine warnings are about the Node that runs npm; what is installed runs on the pinned one.
  const result = spawnSync(command, [...first, ...args, '--loglevel=error'], {
    cwd: root,
    stdio: ['ignore', 2, 2],
  })
  if (result.status !== 0) {
    console.error('nozzle: npm ci failed; its own message is above. Fix that, then run again.')
    process.exit(result.status ?? 1)
  }
}

if (!hasPinnedNode && Number(process.versions.node.split('.')[0]) < NODE_MAJOR) {
  console.error(
    `nozzle: ${process.platform} ${process.arch} needs Node ${NODE_MAJOR} or later here`,
  )
  process.exit(1)
}
const needsDevelopment = !PRODUCT_TASKS.includes(process.argv[2])
const installed = readInstalled()
if (!isComplete(installed, needsDevelopment)) {
  // Whoever has the development packages keeps them.
  install(needsDevelopment || Object.values(installed ?? {}).some(({ dev }) => dev))
}
const child = spawn(
  pinnedNode,
  [
    '--disable-warning=ExperimentalWarning',
    join(root, 'scripts', 'task.ts'),
    ...process.argv.slice(2),
  ],
  {
    cwd: process.cwd(),
    // The channel tells the task when this process is gone, however it went.
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: {
      // Sources are stripped of their types and compiled once: each command starts a third sooner.
      NODE_COMPILE_CACHE: join(root, '.cache', 'compiled'),
      ...process.env,
      PATH: join(root, 'node_modules', '.bin') + delimiter + (process.env.PATH ?? ''),
    },
  },
)
// A terminal's Ctrl-C reaches the task a second time from here; the task takes both as one.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
if (process.env.npm_lifecycle_event) {
  // npm passes signals on, but not its own sudden death.
  const parent = process.ppid
  setInterval(() => {
    if (process.ppid !== parent) child.kill('SIGTERM')
  }, 1000).unref()
}
child.on('exit', (code, signal) => process.exit(signal ? 1 : (code ?? 1)))
