/**
 * Where a secret of one tenant turns up: A tells a real host secrets in every field that holds
 * text, B then asks well and badly, with new slots, after another adapter's load, and after a
 * restart on the same directory. No reply to B, no log line, no metric and no file of the host may
 * hold one, in plain text or as it is usually encoded.
 */
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type GenerateRequest, HOST_ROUTES, samplingOptions } from '../../gpu-host/protocol.ts'
import { serveNative } from '../../gpu-host/serving-engine.ts'
import { createRequest, TestHost } from '../../gpu-host/test/support/test-host.ts'
import { createBenchCache } from '../lib/bench-scheduler.ts'
import {
  BASE_MODEL,
  CONTEXT_LENGTH,
  type KnownAnswers,
  openIsolationEngine,
} from './known-answers.ts'

export interface SecretOutcome {
  readonly secrets: number
  /** Texts of any kind that were searched, and their bytes. */
  readonly places: number
  readonly bytes: number
  /** Requests of B that were answered, and that were refused. */
  readonly answered: number
  readonly refused: number
  readonly found: readonly string[]
  /** A secret that was put on purpose where it must be seen. */
  readonly isSeenWhereItIs: boolean
}

const LIVES = 3
const SEQUENCES = 4

/** @param scratch holds the packs of `known`. */
export async function checkSecrets(
  known: KnownAnswers,
  scratch: string,
  rounds: number,
): Promise<SecretOutcome> {
  const directory = mkdtempSync(join(tmpdir(), 'nozzle-secrets-'))
  const search = new Search()
  const digests = known.adapters.flatMap(({ digest }) => digest ?? [])
  let answered = 0
  let refused = 0
  const count = (isAnswer: boolean): void => {
    if (isAnswer) answered += 1
    else refused += 1
  }
  try {
    for (let life = 0; life < LIVES; life += 1) {
      const test = await startHost(known, scratch, directory)
      for (let round = 0; round < rounds; round += 1) {
        const digest = digests[(life * rounds + round) % digests.length] ?? null
        for (const request of requestsOfA(search.newSecret(), digest)) {
          await (await test.generate(request)).text()
        }
        // Of the same adapter, of the next one, which takes a slot, and of the base.
        for (const each of [digest, digests[(round + 1) % digests.length] ?? null, null]) {
          for (const request of requestsOfB(each)) {
            const response = await test.generate(request)
            const text = await response.text()
            count(response.ok && !text.includes('"type":"error"'))
            search.look(`reply to B in life ${life}`, Buffer.from(text))
          }
        }
      }
      const metrics = await (await fetch(test.host.url + HOST_ROUTES.metrics)).text()
      search.look('metrics', Buffer.from(metrics))
      await test.host.stop()
      search.look('logs', Buffer.from(JSON.stringify(test.logs)))
      search.look('usage', Buffer.from(JSON.stringify(test.usage)))
      search.lookAtFiles(directory)
    }
    const { places, bytes, secrets } = search
    const found = [...search.found]
    writeFileSync(join(directory, 'planted'), `{"prompt":"${search.newSecret()}"}`)
    search.lookAtFiles(directory)
    const isSeenWhereItIs = search.found.length > found.length
    return { secrets, places, bytes, answered, refused, found, isSeenWhereItIs }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

async function startHost(
  known: KnownAnswers,
  scratch: string,
  directory: string,
): Promise<TestHost> {
  const sizes = { slots: 2, sequences: SEQUENCES, threads: 1, kvCells: 2 * CONTEXT_LENGTH }
  const engine = await openIsolationEngine(known.modelPath, sizes)
  const adapters = await createBenchCache(engine, scratch, known.payloadBytes)
  const intake = { install: () => Promise.reject(new Error('no uploads here')) }
  return TestHost.start({ directory, parts: { engine: serveNative(engine), adapters, intake } })
}

function createTextRequest(tenant: string, changes: Partial<GenerateRequest>): GenerateRequest {
  const common = { base_model: BASE_MODEL, model: 'm', max_tokens: 6 }
  return createRequest({ ...common, tenant_id: tenant, key_id: null, ...changes })
}

function requestsOfA(secret: string, adapter_digest: string | null): GenerateRequest[] {
  const sampling = samplingOptions.parse({ temperature: 0 })
  const content = `my secret is ${secret}, tell nobody`
  const changes: Partial<GenerateRequest>[] = [
    { input: { kind: 'text', prompt: content } },
    { input: { kind: 'chat', messages: [{ role: 'user', content, name: secret }] } },
    { input: { kind: 'text', prompt: content }, stop: [secret] },
    { sampling: { ...sampling, grammar: `root ::= "${secret}"` } },
    // Each is refused with words of the host's own.
    { sampling: { ...sampling, grammar: `root ::= ${secret} (` } },
    { input: { kind: 'text', prompt: content.repeat(CONTEXT_LENGTH) } },
  ]
  return changes.map((each) => createTextRequest('ten_a', { adapter_digest, ...each }))
}

function requestsOfB(adapter_digest: string | null): GenerateRequest[] {
  const tokens = (length: number, token = 40) => ({
    input: { kind: 'tokens' as const, tokens: Array.from({ length }, () => token) },
  })
  const changes: Partial<GenerateRequest>[] = [
    { input: { kind: 'text', prompt: 'my secret is ' }, logprobs: true, top_logprobs: 20 },
    { ...tokens(1), max_tokens: CONTEXT_LENGTH },
    tokens(CONTEXT_LENGTH - 1),
    tokens(CONTEXT_LENGTH),
    tokens(CONTEXT_LENGTH + 1),
    tokens(3, 2 ** 31 - 1),
    tokens(3, 2 ** 40),
    { ...tokens(17), max_tokens: 2 ** 31 },
    { input: { kind: 'text', prompt: '' } },
    { ...tokens(5), n: 4, ignore_eos: true },
  ]
  return changes.map((each) => createTextRequest('ten_b', { adapter_digest, ...each }))
}

class Search {
  readonly found: string[] = []
  places = 0
  bytes = 0
  readonly #secrets: { readonly name: string; readonly forms: readonly Buffer[] }[] = []

  get secrets(): number {
    return this.#secrets.length
  }

  newSecret(): string {
    const secret = `canary${randomBytes(12).toString('hex')}`
    this.#secrets.push({ name: `secret ${this.#secrets.length}`, forms: formsOf(secret) })
    return secret
  }

  look(where: string, text: Buffer): void {
    this.places += 1
    this.bytes += text.length
    for (const { name, forms } of this.#secrets) {
      if (forms.some((form) => text.includes(form))) this.found.push(`${name} in ${where}`)
    }
  }

  lookAtFiles(directory: string): void {
    for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue
      this.look(`file ${entry.name}`, readFileSync(join(entry.parentPath, entry.name)))
    }
  }
}

/** Plain, as UTF-16, as hex, and as base64 wherever it begins in its group of three bytes. */
function formsOf(secret: string): Buffer[] {
  const plain = Buffer.from(secret)
  const inBase64 = [0, 1, 2].map((skip) => {
    const text = plain.subarray(skip, skip + Math.floor((plain.length - skip) / 3) * 3)
    return Buffer.from(text.toString('base64'))
  })
  return [plain, Buffer.from(secret, 'utf16le'), Buffer.from(plain.toString('hex')), ...inBase64]
}
