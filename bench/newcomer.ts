/**
 * `newcomer`: what somebody who has just found the repository waits for. A fresh clone with an
 * empty home folder (so nothing of npm's or pip's caches is at hand), `npm start` until it is
 * ready, an adapter deployed, its first answer; then deploys of adapters that nobody has seen,
 * each until the first token of its first answer.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { z } from 'zod'
import { chatBody, requireStream } from '../test/support/inference.ts'
import { cleanEnv, PROJECT_ROOT } from '../test/support/nozzle.ts'
import { percentile, significant } from './lib/statistics.ts'

export interface NewcomerOptions {
  /** Of adapters, after the first. */
  readonly deploys: number
}

const EXAMPLE = join('examples', 'adapters', 'text-to-sql')
const QUESTION = 'Write the SQL query: sum of the amounts of paid orders'
const ANSWER_TOKENS_MAX = 40

const readyLine = z.object({ status: z.literal('ready'), demo_key_file: z.string() })
const deployed = z.object({ endpoint: z.url(), version: z.int(), unchanged: z.boolean() })

/** Fields of the report are explained in this folder's README. */
export async function runNewcomer({ deploys }: NewcomerOptions) {
  const scratch = mkdtempSync(join(tmpdir(), 'nozzle-newcomer-'))
  const newcomer = new Newcomer(scratch)
  try {
    const startedAt = performance.now()
    const secondsFrom = (): number => significant((performance.now() - startedAt) / 1000, 3)
    newcomer.clone()
    const clonedS = secondsFrom()
    const apiKey = await newcomer.start()
    const readyS = secondsFrom()
    const first = await newcomer.deployAndAsk('mine', apiKey)
    const firstAnswerS = secondsFrom()
    const waits: number[] = []
    for (let index = 0; index < deploys; index += 1) {
      waits.push((await newcomer.deployAndAsk(`mine-${index}`, apiKey)).firstTokenMs)
    }
    return {
      bench: 'newcomer',
      cores: availableParallelism(),
      commit: newcomer.commit(),
      ...{ cloned_s: clonedS, ready_s: readyS, first_answer_s: firstAnswerS },
      first_answer: first.answer,
      deploys,
      deploy_to_first_token_ms: {
        p50: significant(percentile(waits, 0.5)),
        max: significant(Math.max(...waits)),
      },
    }
  } finally {
    await newcomer.stop()
    rmSync(scratch, { recursive: true, force: true })
  }
}

class Newcomer {
  readonly #clone: string
  readonly #scratch: string
  readonly #env: NodeJS.ProcessEnv
  #pool: ChildProcess | null = null
  #count = 0

  constructor(scratch: string) {
    this.#scratch = scratch
    this.#clone = join(scratch, 'nozzle')
    const home = join(scratch, 'home')
    mkdirSync(home)
    const ours = join(PROJECT_ROOT, 'node_modules', '.bin')
    const path = (process.env.PATH ?? '').split(delimiter).filter((place) => place !== ours)
    const env = cleanEnv({ HOME: home, PATH: path.join(delimiter), NOZZLE_PORT: '0' })
    // What npm tells those that it runs would point back at this checkout.
    const entries = Object.entries(env).filter(
      ([name]) => !/^(INIT_CWD|npm_(?!config_))/.test(name),
    )
    this.#env = Object.fromEntries(entries)
  }

  clone(): void {
    this.#git('clone', '--quiet', PROJECT_ROOT, this.#clone)
  }

  commit(): string {
    return this.#git('-C', this.#clone, 'rev-parse', '--short', 'HEAD').trim()
  }

  /** Resolves to the demo key once the pool serves. */
  async start(): Promise<string> {
    const pool = spawn('npm', ['--silent', 'start', '--', '--json'], {
      cwd: this.#clone,
      env: this.#env,
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true,
    })
    this.#pool = pool
    const lines = createInterface({ input: pool.stdout })
    const [line] = await Promise.race([once(lines, 'line'), once(lines, 'close')])
    if (typeof line !== 'string') throw new Error('npm start ended before it was ready')
    return readFileSync(readyLine.parse(JSON.parse(line)).demo_key_file, 'utf8').trim()
  }

  /** Of an adapter with bytes of its own; from the start of `nozzle deploy`. */
  async deployAndAsk(
    model: string,
    apiKey: string,
  ): Promise<{ firstTokenMs: number; answer: string }> {
    const adapter = this.#newAdapter()
    const startedAt = performance.now()
    const { endpoint, unchanged } = deployed.parse(
      JSON.parse(await this.#nozzle('deploy', adapter, '--model', model, '--json')),
    )
    if (unchanged) throw new Error('an adapter that the pool had: it would prove nothing')
    const stream = await requireStream({
      baseUrl: endpoint,
      apiKey,
      body: chatBody(QUESTION, ANSWER_TOKENS_MAX),
    })
    await stream.tokens(1)
    const firstTokenMs = performance.now() - startedAt
    return { firstTokenMs, answer: (await stream.reply).text }
  }

  async stop(): Promise<void> {
    const pool = this.#pool
    if (pool?.pid === undefined || pool.exitCode !== null) return
    const gone = once(pool, 'exit')
    process.kill(-pool.pid, 'SIGINT')
    await gone
  }

  /** The example with the lowest bit of one weight turned: another digest, the same answers. */
  #newAdapter(): string {
    this.#count += 1
    const folder = join(this.#scratch, `adapter-${this.#count}`)
    cpSync(join(this.#clone, EXAMPLE), folder, { recursive: true })
    const path = join(folder, 'adapter_model.safetensors')
    const bytes = readFileSync(path)
    // F16, little-endian: the second byte from a value's end is its low one.
    const at = bytes.length - 2 * this.#count
    bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
    writeFileSync(path, bytes)
    return folder
  }

  async #nozzle(...args: string[]): Promise<string> {
    const child = spawn(join(this.#clone, 'scripts', 'nozzle.mjs'), args, {
      cwd: this.#clone,
      env: this.#env,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [stdout, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')])
    if (code !== 0) throw new Error(`nozzle ${args.join(' ')} ended with ${code}`)
    return stdout
  }

  #git(...args: string[]): string {
    return execFileSync('git', args, { encoding: 'utf8', env: this.#env })
  }
}
