/**
 * First step of every npm script: runs on whatever Node (≥ 18) the machine has, installs the locked
 * packages when they are missing or out of date, then hands over to the pinned Node 24 that came
 * with them. Plain JavaScript without imports from node_modules, since nothing is installed yet.
 *
 * usage: node scripts/bootstrap.mjs <task> [arguments]
 */
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const pinnedNode = join(root, 'node_modules', 'node', 'bin', 'node')
const stampPath = join(root, 'node_modules', '.nozzle-install')

/** Changes when the lock file does: an install is needed exactly then. */
function lockStamp() {
  return createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex')
}

function isInstalled() {
  if (!existsSync(pinnedNode) || !existsSync(stampPath)) return false
  return readFileSync(stampPath, 'utf8') === lockStamp()
}

/** `npm ci`, its output on stderr so that stdout stays the task's own. */
function install() {
  console.error('nozzle: installing locked packages with npm (about 250 MB to download, once)')
  const npm = process.env.npm_execpath
  const [command, ...first] = npm?.endsWith('.js') ? [process.execPath, npm] : ['npm']
  const args = [...first, 'ci', '--no-fund', '--no-audit']
  const result = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2] })
  if (result.status !== 0) {
    console.error('nozzle: npm ci failed; its own message is above. Fix that, then run again.')
    process.exit(result.status ?? 1)
  }
  writeFileSync(stampPath, lockStamp())
}

if (!isInstalled()) install()
const child = spawn(
  pinnedNode,
  [
    '--disable-warning=ExperimentalWarning',
    join(root, 'scripts', 'task.ts'),
    ...process.argv.slice(2),
  ],
  {
    cwd: process.cwd(),
    stdio: 'inherit',
    env: {
      ...process.env,
      PATH: join(root, 'node_modules', '.bin') + delimiter + (process.env.PATH ?? ''),
    },
  },
)
// A terminal's Ctrl-C reaches the child by itself; the handlers only keep this process waiting.
process.on('SIGINT', () => {})
process.on('SIGTERM', () => child.kill('SIGTERM'))
child.on('exit', (code, signal) => process.exit(signal ? 1 : (code ?? 1)))
