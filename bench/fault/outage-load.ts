/**
 * Clients during outages of the database: some with keys that the edge knows, some with keys that
 * nobody knows, some with good keys that the edge has not met. Each notes what it was answered, and
 * when, so that an answer can be held against what the database could have said.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { createApiKey } from '../../edge/auth/api-key.ts'
import { ask, type Delivery } from './client.ts'
import type { Cluster, TenantKey } from './cluster.ts'

/** One answer to a key that the edge does not know. */
export interface Refusal {
  readonly isStranger: boolean
  readonly status: number
  readonly code: string | null
  readonly hasRetryAfter: boolean
  readonly startMs: number
  readonly endMs: number
}

const TOKENS_MIN = 2
const TOKENS_SPREAD = 7
const REFUSAL_PAUSE_MS = 100

const errorBody = z.object({ error: z.object({ code: z.string() }) })

export interface OutageClients {
  /** One client each, which uses its key all the time. */
  readonly known: readonly TenantKey[]
  /** Used once each. */
  readonly newcomers: readonly TenantKey[]
  /** Of a client between two requests. */
  readonly pauseMs: number
}

export class OutageLoad {
  readonly deliveries: Delivery[] = []
  readonly refusals: Refusal[] = []
  readonly #cluster: Cluster
  readonly #newcomers: TenantKey[]
  readonly #running: Promise<void>[] = []
  readonly #pauseMs: number
  #isOver = false

  constructor(cluster: Cluster, { known, newcomers, pauseMs }: OutageClients) {
    this.#cluster = cluster
    this.#newcomers = [...newcomers]
    this.#pauseMs = pauseMs
    for (const [i, key] of known.entries()) this.#running.push(this.#useKnown(i, key))
    this.#running.push(this.#useUnknown())
  }

  /** Resolves when the last answer is there. */
  async stop(): Promise<void> {
    this.#isOver = true
    await Promise.all(this.#running)
  }

  async #useKnown(number: number, key: TenantKey): Promise<void> {
    const { url } = this.#cluster
    for (let count = 0; !this.#isOver; count++) {
      const asked = {
        isStream: count % 2 === 0,
        tokens: TOKENS_MIN + (count % TOKENS_SPREAD),
        choices: 1,
      }
      const target = { url, key, prompt: `known ${number}` }
      this.deliveries.push(await ask(target, number, asked, () => {}))
      await sleep(this.#pauseMs)
    }
  }

  async #useUnknown(): Promise<void> {
    while (!this.#isOver) {
      this.refusals.push(await this.#refused(await createApiKey(), true))
      const newcomer = this.#newcomers.pop()
      if (newcomer !== undefined) this.refusals.push(await this.#refused(newcomer.key, false))
      await sleep(REFUSAL_PAUSE_MS)
    }
  }

  async #refused(key: string, isStranger: boolean): Promise<Refusal> {
    const startMs = performance.now()
    const response = await fetch(`${this.#cluster.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}` },
      body: JSON.stringify({
        model: 'fake-base',
        messages: [{ role: 'user', content: 'hello' }],
        max_tokens: 1,
      }),
    })
    const { data } = errorBody.safeParse(await response.json())
    return {
      isStranger,
      status: response.status,
      code: data?.error.code ?? null,
      hasRetryAfter: response.headers.has('retry-after'),
      startMs,
      endMs: performance.now(),
    }
  }
}
