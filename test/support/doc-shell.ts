/**
 * The terminals of somebody who follows a document: a view of the checkout with a data directory of
 * its own, one shell in which block after block is typed, and another in which a pool serves until
 * Ctrl-C. The only thing that differs from the page is the pool's port, which is any free one.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { type DataDir, locateDataDir } from '../../scripts/lib/data-dir.ts'
import { cleanEnv, PROJECT_ROOT } from './nozzle.ts'
import { linkBaseModel, poolEnv } from './pool-home.ts'
import { killLivingChildren } from './processes.ts'
import { until } from './until.ts'

/** Where documents say that a pool listens. */
const SHOWN_ORIGIN = 'http://127.0.0.1:8787'
/** Of an npm around the tests: a terminal has none of it. */
const OF_NPM = /^(INIT_CWD$|npm_(package|lifecycle|command|execpath|node_execpath|config_local))/
const NOT_IN_VIEW = ['.git', '.nozzle']
const READY_MAX_MS = 120_000

export interface Typed {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

export class DocTerminals {
  readonly #view: string
  readonly #scratch: string
  readonly #env: NodeJS.ProcessEnv
  readonly #dir: DataDir
  readonly #shell: ChildProcess
  readonly #answers: Interface
  /** Resolves when the shell is gone. */
  readonly #gone: Promise<unknown>
  #pool: ChildProcess | null = null
  #origin = SHOWN_ORIGIN
  #count = 0

  /** @param after a data directory that a pool has been started on before; null = a new one. */
  constructor(after: string | null) {
    this.#view = realpathSync(mkdtempSync(join(tmpdir(), 'nozzle-docs-')))
    this.#scratch = join(this.#view, '.typed')
    mkdirSync(this.#scratch)
    const data = join(this.#view, '.nozzle')
    if (after === null) linkBaseModel(data)
    else cpSync(after, data, { recursive: true, verbatimSymlinks: true })
    for (const name of readdirSync(PROJECT_ROOT)) {
      if (!NOT_IN_VIEW.includes(name)) symlinkSync(join(PROJECT_ROOT, name), join(this.#view, name))
    }
    const settings = { ...poolEnv(data), HOME: this.#scratch, NO_COLOR: '1' }
    const entries = Object.entries(cleanEnv(settings)).filter(([name]) => !OF_NPM.test(name))
    this.#env = Object.fromEntries(entries)
    this.#dir = locateDataDir(settings, PROJECT_ROOT)
    this.#shell = spawn('bash', ['--noprofile', '--norc'], {
      cwd: this.#view,
      env: this.#env,
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    if (this.#shell.stdout === null) throw new Error('stdout is piped')
    this.#answers = createInterface({ input: this.#shell.stdout })
    this.#gone = once(this.#shell, 'exit')
    this.#send('shopt -s expand_aliases; set -o pipefail')
  }

  /** Types a block. With an exit code that is to be 0, the first command that fails ends it. */
  async type(source: string, exitCode: number): Promise<Typed> {
    this.#count += 1
    const path = join(this.#scratch, String(this.#count))
    writeFileSync(path, `${this.#here(source)}\n`)
    const mark = `typed-${this.#count}`
    const run = `source '${path}' </dev/null >'${path}.out' 2>'${path}.err'`
    const line = new Promise<string>((resolve) => this.#answers.once('line', resolve))
    this.#send(
      exitCode === 0 ? `set -e; ${run}; set +e; echo ${mark} 0` : `${run}; echo ${mark} $?`,
    )
    const told = await Promise.race([line, this.#gone])
    const [, code] = /^typed-\d+ (\d+)$/.exec(String(told)) ?? []
    return {
      exitCode: Number(code ?? this.#shell.exitCode ?? 1),
      stdout: readFileSync(`${path}.out`, 'utf8'),
      stderr: readFileSync(`${path}.err`, 'utf8'),
    }
  }

  /** A program in Python, given on stdin to the machine's python3 with these packages. */
  async python(source: string, packages: string): Promise<Typed> {
    const quoted = this.#here(source).replaceAll("'", `'\\''`)
    return this.type(`PYTHONPATH='${packages}' python3 -c '${quoted}'`, 0)
  }

  /** Starts a pool in the other terminal; one that serves there is ended first. */
  async serve(source: string): Promise<void> {
    await this.interrupt()
    const pool = spawn('bash', ['-c', source], {
      cwd: this.#view,
      env: this.#env,
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own: Ctrl-C reaches every process in it.
      detached: true,
    })
    this.#pool = pool
    const said: Buffer[] = []
    for (const stream of [pool.stdout, pool.stderr]) {
      stream?.on('data', (chunk: Buffer) => said.push(chunk))
    }
    const text = (): string => Buffer.concat(said).toString('utf8')
    this.#origin = await until(
      `ready, of ${source}`,
      () => {
        if (pool.exitCode !== null) throw new Error(`the pool did not start:\n${text()}`)
        const [, url] = /^ready\n\s+base URL\s+(\S+)\/v1$/m.exec(text()) ?? []
        return url ?? null
      },
      READY_MAX_MS,
    )
  }

  get dataDirectory(): string {
    return this.#dir.root
  }

  async close(): Promise<void> {
    this.#shell.kill()
    await this.interrupt()
    killLivingChildren(this.#dir)
    rmSync(this.#view, { recursive: true, force: true })
  }

  /** Ctrl-C in the pool's terminal. */
  async interrupt(): Promise<void> {
    const pool = this.#pool
    this.#pool = null
    if (pool?.pid === undefined || pool.exitCode !== null) return
    const gone = once(pool, 'exit')
    process.kill(-pool.pid, 'SIGINT')
    await gone
  }

  #here(source: string): string {
    return source.replaceAll(SHOWN_ORIGIN, this.#origin)
  }

  #send(line: string): void {
    this.#shell.stdin?.write(`${line}\n`)
  }
}
