/**
 * Adapters in turns as fast as they can be asked for: clients of several tenants, each with a
 * request under way all the time, over fewer slots than adapters and fewer pages than prompts, with
 * beginnings that all share and clients that leave at any moment. Every token must be the one that
 * its adapter says there, and no prompt may be found in the cache that its tenant has not sent to
 * that adapter before.
 */
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { errorCodeOf } from '../../gpu-host/errors.ts'
import type { GenerateEvent, GenerateRequest } from '../../gpu-host/protocol.ts'
import type { Generation } from '../../gpu-host/scheduler/request-runner.ts'
import type { Scheduler } from '../../gpu-host/scheduler/scheduler.ts'
import { createRequest } from '../../gpu-host/test/support/test-host.ts'
import { Random } from '../../native/test/support/random.ts'
import { ANSWER_TOKENS, BASE_MODEL, type KnownAdapter, type KnownAnswers } from './known-answers.ts'

export interface AlternationOptions {
  readonly requests: number
  readonly clients: number
  readonly tenants: number
  readonly seed: number
  readonly note: (text: string) => void
}

export interface AlternationOutcome {
  requests: number
  cancelled: number
  /** Ended with the error that an adapter of nobody must end with. */
  refused: number
  tokens: number
  /** Not what the request's adapter says at that place. */
  wrongTokens: number
  cachedTokens: number
  /** Of prompts that the tenant had sent nothing of to that adapter yet; none may be cached. */
  firstOfTheirKind: number
  /** Found cached beyond what the tenant itself had sent. */
  foreignCachedTokens: number
  findings: string[]
}

const FINDINGS_MAX = 20
/** Clients that leave, of all. */
const LEAVING_SHARE = 0.25
/** Requests for an adapter that is not there. */
const MISSING_SHARE = 0.01
const MISSING_DIGEST = `sha256:${'f'.repeat(64)}`
const NOTE_EVERY = 20_000
const FULL_PAUSE_MS = 5

/** One request, as it was drawn. */
interface Ask {
  readonly number: number
  readonly tenant: string
  readonly adapter: KnownAdapter | null
  readonly prompt: number
  /** Leaves when it has heard so many events, and some turns of the event loop later. */
  readonly leave: { readonly events: number; readonly turns: number } | null
}

export async function runAlternation(
  scheduler: Scheduler,
  known: KnownAnswers,
  options: AlternationOptions,
): Promise<AlternationOutcome> {
  const run = new Alternation(scheduler, known, options)
  await Promise.all(Array.from({ length: options.clients }, () => run.client()))
  return run.outcome
}

class Alternation {
  readonly outcome: AlternationOutcome = {
    ...{ requests: 0, cancelled: 0, refused: 0, tokens: 0, wrongTokens: 0, cachedTokens: 0 },
    ...{ firstOfTheirKind: 0, foreignCachedTokens: 0, findings: [] },
  }
  readonly #scheduler: Scheduler
  readonly #known: KnownAnswers
  readonly #options: AlternationOptions
  readonly #random: Random
  /** By tenant and adapter: how often each prompt was sent. */
  readonly #sent = new Map<string, Map<number, number>>()
  /** Tokens that two prompts begin with alike. */
  readonly #common: readonly (readonly number[])[]
  #next = 0

  constructor(scheduler: Scheduler, known: KnownAnswers, options: AlternationOptions) {
    this.#scheduler = scheduler
    this.#known = known
    this.#options = options
    this.#random = new Random('alternation', options.seed)
    const { prompts } = known
    this.#common = prompts.map((one) => prompts.map((other) => countCommon(one, other)))
  }

  async client(): Promise<void> {
    while (this.#next < this.#options.requests) {
      const ask = this.#draw(this.#next++)
      await this.#ask(ask)
      this.outcome.requests += 1
      if (this.outcome.requests % NOTE_EVERY === 0) {
        this.#options.note(`${this.outcome.requests} requests, ${this.outcome.wrongTokens} wrong`)
      }
    }
  }

  #draw(number: number): Ask {
    const random = this.#random
    const { adapters, prompts } = this.#known
    const isMissing = random.fraction() < MISSING_SHARE
    const isLeaving = random.fraction() < LEAVING_SHARE
    return {
      number,
      tenant: `ten_${random.integer(this.#options.tenants)}`,
      adapter: isMissing ? null : (adapters[random.integer(adapters.length)] ?? null),
      prompt: random.integer(prompts.length),
      leave: isLeaving
        ? { events: random.integer(ANSWER_TOKENS + 1), turns: random.integer(8) }
        : null,
    }
  }

  async #ask(ask: Ask): Promise<void> {
    const { tenant, adapter, prompt } = ask
    const digest = adapter === null ? MISSING_DIGEST : adapter.digest
    const kind = `${tenant} ${digest}`
    const sent = this.#sent.get(kind) ?? new Map<number, number>()
    this.#sent.set(kind, sent.set(prompt, (sent.get(prompt) ?? 0) + 1))
    const request = createRequest({
      // Names tell nothing apart: all models are called the same.
      ...{ request_id: `req_${ask.number}`, tenant_id: tenant, model: 'm' },
      ...{ adapter_digest: digest, base_model: BASE_MODEL, ignore_eos: true },
      input: { kind: 'tokens', tokens: [...(this.#known.prompts[prompt] ?? [])] },
      max_tokens: ANSWER_TOKENS,
    })
    await this.#read(ask, await this.#submit(request))
  }

  /** A machine that was away for a while makes a host turn requests away, until it is abreast. */
  async #submit(request: GenerateRequest): Promise<Generation> {
    for (;;) {
      try {
        return this.#scheduler.submit(request)
      } catch (error) {
        if (errorCodeOf(error) !== 'queue_full') throw error
        await sleep(FULL_PAUSE_MS)
      }
    }
  }

  async #read(ask: Ask, generation: Generation): Promise<void> {
    const expected = ask.adapter?.answers[ask.prompt] ?? []
    let told = 0
    let last: GenerateEvent | null = null
    for (let heard = 0; ; heard += 1) {
      if (ask.leave?.events === heard) void this.#leave(ask.leave.turns, generation)
      const event = await generation.next()
      if (event === null) break
      last = event
      if (event.type !== 'chunk') continue
      told = this.#compare(ask, expected, told, event)
    }
    this.#close(ask, last)
  }

  async #leave(turns: number, generation: Generation): Promise<void> {
    for (let turn = 0; turn < turns; turn += 1) await nextTurn()
    generation.cancel()
  }

  /** Token by token; returns how many have been told by now. */
  #compare(
    ask: Ask,
    expected: readonly string[],
    told: number,
    { text, tokens }: Extract<GenerateEvent, { type: 'chunk' }>,
  ): number {
    const due = expected.slice(told, told + tokens)
    this.outcome.tokens += tokens
    if (text !== due.join('') || due.length !== tokens) {
      this.outcome.wrongTokens += tokens
      this.#note(ask, `said ${JSON.stringify(text)}, not ${JSON.stringify(due.join(''))}`)
    }
    return told + tokens
  }

  #close(ask: Ask, last: GenerateEvent | null): void {
    if (last?.type === 'end' && last.finish_reason === 'length') {
      if (ask.adapter === null) this.#note(ask, 'an adapter of nobody answered')
      this.#checkCached(ask, last.usage.cached_prompt_tokens)
      return
    }
    if (last?.type === 'error' && last.code === 'adapter_not_found' && ask.adapter === null) {
      this.outcome.refused += 1
      return
    }
    if (ask.leave === null) this.#note(ask, `ended with ${JSON.stringify(last)}`)
    else this.outcome.cancelled += 1
  }

  /** What is cached was sent by this very tenant to this very adapter. */
  #checkCached(ask: Ask, cached: number): void {
    const sent = this.#sent.get(`${ask.tenant} ${ask.adapter?.digest ?? null}`) ?? new Map()
    const common = this.#common[ask.prompt] ?? []
    let own = 0
    for (const [prompt, times] of sent) {
      if (prompt !== ask.prompt || times > 1) own = Math.max(own, common[prompt] ?? 0)
    }
    this.outcome.cachedTokens += cached
    if (own === 0) this.outcome.firstOfTheirKind += 1
    if (cached <= own) return
    this.outcome.foreignCachedTokens += cached - own
    this.#note(ask, `found ${cached} tokens cached, and has sent ${own}`)
  }

  #note({ number, tenant, adapter, prompt }: Ask, what: string): void {
    if (this.outcome.findings.length >= FINDINGS_MAX) return
    const digest = adapter?.digest?.slice(0, 15) ?? 'base'
    this.outcome.findings.push(
      `request ${number} (${tenant}, ${digest}, prompt ${prompt}): ${what}`,
    )
  }
}

function countCommon(one: readonly number[], other: readonly number[]): number {
  const at = one.findIndex((token, index) => token !== other[index])
  return at < 0 ? one.length : at
}
