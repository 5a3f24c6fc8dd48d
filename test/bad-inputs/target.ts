/**
 * The pool that bad inputs are sent to: an edge and a host as processes of their own, the native
 * engine, a sound adapter with an answer that is known. Says how each input was answered, whether
 * both processes are still those that were started, and whether a sound request still is.
 */
import { connect } from 'node:net'
import { join } from 'node:path'
import { z } from 'zod'
import { PoolCluster } from '../../bench/pool/pool-cluster.ts'
import { createQuestions, POOL_CONTEXT_LENGTH, type Question } from '../../bench/pool/questions.ts'
import { rssBytes } from '../../bench/pool/vitals.ts'
import { runInEnv } from '../../scripts/test/cli-run.ts'
import {
  CANARY,
  type HttpInput,
  type Input,
  type SocketInput,
  TEXT_PATH,
  type UploadInput,
  type World,
} from './bad-case.ts'
import type { Reply } from './judge.ts'

/** A reply that takes longer is none. */
const REPLY_MS_MAX = 30_000
const QUESTIONS = 4
const ANSWER_TOKENS = 8
const SEED = 7

export interface Vitals {
  readonly edgePid: number
  readonly hostPid: number
  /** Resident memory, MiB. */
  readonly edgeMib: number
  readonly hostMib: number
}

const answer = z.object({ choices: z.array(z.object({ text: z.string() })).length(1) })

export class Target {
  readonly world: World
  readonly #cluster: PoolCluster
  readonly #questions: readonly Question[]
  readonly #directory: string
  readonly #log: string[]
  #asked = 0

  private constructor(
    cluster: PoolCluster,
    world: World,
    questions: readonly Question[],
    directory: string,
    log: string[],
  ) {
    this.#cluster = cluster
    this.world = world
    this.#questions = questions
    this.#directory = directory
    this.#log = log
  }

  /** `directory` is the caller's to remove. */
  static async start(directory: string): Promise<Target> {
    const set = await createQuestions({
      directory,
      adapters: 1,
      questions: QUESTIONS,
      completionTokens: ANSWER_TOKENS,
      seed: SEED,
    })
    const log: string[] = []
    const cluster = await PoolCluster.start('pglite:memory', set, {
      ...{ edges: 1, hosts: 1, tenants: 1, sequences: 16, queueDepth: 64, stepMs: 0, seed: SEED },
      onLog: (text) => log.push(text),
    })
    const tenant = cluster.tenant(0)
    const [adapter] = set.adapters
    if (adapter === undefined) throw new Error('the set has no adapter')
    const world: World = {
      tenant: tenant.name,
      tenantId: tenant.id,
      tenantKey: tenant.key,
      operatorKey: cluster.operatorKey,
      model: adapter.name,
      baseModel: set.baseModel,
      contextLength: POOL_CONTEXT_LENGTH,
      vocabularySize: VOCABULARY_SIZE,
      config: adapter.config,
      weights: adapter.weights,
    }
    return new Target(cluster, world, set.questions, directory, log)
  }

  send(input: Input): Promise<Reply> {
    switch (input.kind) {
      case 'http':
        return this.#request(input)
      case 'upload':
        return this.#upload(input)
      case 'socket':
        return this.#overSocket(input)
      case 'cli':
        return this.#run(input.args)
    }
  }

  /** Throws when a process is gone. */
  vitals(): Vitals {
    const [edge, host] = [this.#edge.process.pid, this.#host.process.pid]
    const [edgeMib, hostMib] = [toMib(rssBytes(edge)), toMib(rssBytes(host))]
    return { edgePid: edge, hostPid: host, edgeMib, hostMib }
  }

  /** Throws when the sound request is not answered as it must be. */
  async assertGood(): Promise<void> {
    const { tenantKey, model } = this.world
    const question = this.#questions[this.#asked % this.#questions.length]
    this.#asked += 1
    if (question === undefined) throw new Error('there are no questions')
    const { prompt, text } = question
    const body = { model, prompt, max_tokens: ANSWER_TOKENS, temperature: 0, ignore_eos: true }
    const response = await fetch(this.#edge.url + TEXT_PATH, {
      method: 'POST',
      headers: { authorization: `Bearer ${tenantKey}` },
      body: JSON.stringify(body),
    })
    const words = await response.text()
    if (!response.ok) throw new Error(`a sound request: ${response.status}: ${words}`)
    const found = answer.parse(JSON.parse(words)).choices[0]?.text
    if (found !== text) throw new Error(`a sound request: ${JSON.stringify(found)}`)
  }

  /** What both wrote down that a tenant said or proved itself with. */
  leaks(): string[] {
    const text = this.#log.join('')
    const { tenantKey, operatorKey } = this.world
    const secrets = { CANARY, tenantKey: tenantKey.slice(-24), operatorKey: operatorKey.slice(-24) }
    return Object.entries(secrets).flatMap(([name, secret]) => {
      const at = text.indexOf(secret)
      return at < 0 ? [] : [`${name} in: ${text.slice(Math.max(0, at - 200), at + 60)}`]
    })
  }

  get logCharacters(): number {
    return this.#log.reduce((sum, { length }) => sum + length, 0)
  }

  stop(): Promise<void> {
    return this.#cluster.stop()
  }

  get #edge() {
    const [edge] = this.#cluster.edges
    if (edge === undefined) throw new Error('the pool has no edge')
    return edge
  }

  get #host() {
    const [host] = this.#cluster.hosts
    if (host === undefined) throw new Error('the pool has no host')
    return host
  }

  #request({ method, path, headers, body }: HttpInput): Promise<Reply> {
    return ask(this.#edge.url + path, { method, headers, body: body?.() ?? null })
  }

  #upload({ model, config, weights, fileNames }: UploadInput): Promise<Reply> {
    const { tenant, operatorKey } = this.world
    const form = new FormData()
    form.append('config', new Blob([config()]), fileNames.config)
    form.append('weights', new Blob([weights()]), fileNames.weights)
    const url = `${this.#edge.url}/v1/tenants/${tenant}/models/${model}/versions`
    return ask(url, {
      method: 'POST',
      headers: { authorization: `Bearer ${operatorKey}` },
      body: form,
    })
  }

  async #run(args: readonly string[]): Promise<Reply> {
    const { exitCode, stdout, stderr } = await runInEnv(args, {
      NOZZLE_EDGE_URL: this.#edge.url,
      NOZZLE_API_KEY: this.world.operatorKey,
      NOZZLE_TENANT: this.world.tenant,
      NOZZLE_DATA_DIR: join(this.#directory, 'none'),
      NOZZLE_CONFIG: join(this.#directory, 'none.json'),
    })
    return { is: 'exited', code: exitCode, words: stdout + stderr }
  }

  #overSocket({ to, writes, afterwards }: SocketInput): Promise<Reply> {
    const url = new URL(to === 'edge' ? this.#edge.url : this.#host.url)
    return new Promise((resolve) => {
      const socket = connect({ port: Number(url.port), host: url.hostname, allowHalfOpen: true })
      const pieces: Buffer[] = []
      const finish = (reason: string): void => {
        clearTimeout(deadline)
        socket.destroy()
        resolve(toReply(Buffer.concat(pieces).toString('latin1'), reason))
      }
      const deadline = setTimeout(() => finish(`silent for ${REPLY_MS_MAX} ms`), REPLY_MS_MAX)
      socket.on('data', (piece) => pieces.push(piece))
      socket.on('error', ({ message }) => finish(message))
      socket.on('end', () => finish('closed'))
      socket.on('close', () => finish('closed'))
      socket.on('connect', async () => {
        for (const piece of writes) {
          if (!socket.destroyed) await new Promise((done) => socket.write(piece, done))
        }
        if (afterwards === 'destroy') finish('left')
        if (afterwards === 'end') socket.end()
        // A server may take a connection that says no more for one that is kept alive.
        if (afterwards !== 'destroy') setTimeout(() => finish('waited'), SOCKET_MS).unref()
      })
    })
  }
}

/** Nearly all of its tokens are words of their own: as bench/pool/questions.ts makes it. */
const VOCABULARY_SIZE = 4096
/** A server that has nothing to say to what came says so in less. */
const SOCKET_MS = 1000

async function ask(url: string, init: RequestInit): Promise<Reply> {
  try {
    const signal = AbortSignal.timeout(REPLY_MS_MAX)
    const response = await fetch(url, { ...init, redirect: 'manual', signal })
    return { is: 'answered', status: response.status, body: await response.text() }
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : ''
    return { is: 'lost', reason: `${String(error)} ${cause}` }
  }
}

/** The first reply of those that came. */
function toReply(text: string, reason: string): Reply {
  const status = /^HTTP\/1\.1 (\d{3}) /.exec(text)?.[1]
  if (status === undefined) return { is: 'lost', reason: text === '' ? reason : text.slice(0, 80) }
  const body = text.slice(text.indexOf('\r\n\r\n') + 4)
  const [json = ''] = /\{[\s\S]*\}/.exec(body.split('HTTP/1.1')[0] ?? '') ?? []
  return { is: 'answered', status: Number(status), body: json }
}

const toMib = (bytes: number): number => Math.round(bytes / 1024 ** 2)
