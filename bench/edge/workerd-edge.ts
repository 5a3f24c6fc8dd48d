/**
 * The Worker as it is released, in workerd alone: wrangler builds it, and what `wrangler dev` puts
 * in front of a Worker is not there.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { extname, join } from 'node:path'
import { z } from 'zod'
import { ServerProcess } from '../peers/server-process.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const EDGE = join(ROOT, 'edge')
const WRANGLER = join(ROOT, 'node_modules', 'wrangler', 'bin', 'wrangler.js')
const WORKERD = join(ROOT, 'node_modules', 'workerd', 'bin', 'workerd')
const MAIN = 'worker.js'
/** What a build leaves beside its modules. */
const NO_MODULES = new Set(['.map', '.md'])

const settings = z.object({
  compatibility_date: z.string(),
  compatibility_flags: z.array(z.string()),
})

export interface WorkerdSetup {
  readonly port: number
  readonly bindings: Readonly<Record<string, string>>
  /** For the build and the log. */
  readonly directory: string
}

export function startWorkerd({ port, bindings, directory }: WorkerdSetup): Promise<ServerProcess> {
  const build = join(directory, 'worker')
  mkdirSync(build)
  buildWorker(build)
  const config = join(build, 'config.capnp')
  writeFileSync(config, toConfig(build, port, bindings))
  return ServerProcess.start({
    name: 'workerd',
    command: WORKERD,
    args: ['serve', config],
    env: {},
    logPath: join(directory, 'workerd.log'),
    readyUrl: `http://127.0.0.1:${port}/healthz`,
  })
}

function buildWorker(directory: string): void {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [WRANGLER, 'deploy', '--dry-run', '--outdir', directory],
    {
      cwd: EDGE,
      encoding: 'utf8',
      env: {
        ...process.env,
        WRANGLER_SEND_METRICS: 'false',
        WRANGLER_LOG_PATH: directory,
        CI: '1',
      },
    },
  )
  if (status !== 0) throw new Error(`wrangler did not build the Worker: ${stdout}${stderr}`)
}

/** Cap'n Proto takes JSON's texts. */
function toConfig(build: string, port: number, bindings: WorkerdSetup['bindings']): string {
  const { compatibility_date: date, compatibility_flags: flags } = settings.parse(readJsonc())
  const isModule = (file: string) => !NO_MODULES.has(extname(file)) && extname(file) !== '.log'
  const modules = readdirSync(build)
    .filter(isModule)
    // The first is the Worker itself.
    .sort((a, b) => Number(b === MAIN) - Number(a === MAIN))
    .map((file) => {
      const kind = file === MAIN ? 'esModule' : 'text'
      return `(name = ${JSON.stringify(file)}, ${kind} = embed ${JSON.stringify(file)})`
    })
  const texts = Object.entries(bindings).map(
    ([name, value]) => `(name = ${JSON.stringify(name)}, text = ${JSON.stringify(value)})`,
  )
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "edge", worker = .edge),
    (name = "internet", network = (allow = ["public", "private"])),
  ],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "edge")],
);
const edge :Workerd.Worker = (
  modules = [${modules.join(', ')}],
  bindings = [${texts.join(', ')}],
  compatibilityDate = ${JSON.stringify(date)},
  compatibilityFlags = ${JSON.stringify(flags)},
);
`
}

/** Of wrangler.jsonc, whose comments have lines of their own. */
function readJsonc(): unknown {
  const text = readFileSync(join(EDGE, 'wrangler.jsonc'), 'utf8')
  return JSON.parse(text.replaceAll(/^\s*\/\/.*$/gm, ''))
}
