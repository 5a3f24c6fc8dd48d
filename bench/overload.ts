/**
 * `overload`: more requests than a host can serve, as they come when nobody waits for answers: does
 * it go on serving what it can, are first tokens of those let in on time, is everybody else told at
 * once, and how long does it all take to be over? One edge, one host and a PostgreSQL as processes.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { Agent } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { findPostgres, startPostgres } from '../db/test/support/postgres-server.ts'
import { Random } from '../native/test/support/random.ts'
import {
  goodput,
  type Outcome,
  type Phase,
  recoverySeconds,
  toPhaseReport,
} from './lib/overload-report.ts'
import { percentile, significant } from './lib/statistics.ts'
import { auditPool } from './pool/books.ts'
import { PoolCluster } from './pool/pool-cluster.ts'
import { toVisit } from './pool/pool-load.ts'
import { createQuestions, type QuestionSet } from './pool/questions.ts'
import { faultOf, type Reply, visit } from './pool/visitor.ts'

export interface OverloadOptions {
  /** Of the four phases together. */
  readonly seconds: number
  /** Of the closed loop before them. */
  readonly capacitySeconds: number
  readonly seed: number
}

/** Of the capacity. */
const LOADS = [0.8, 1.5, 3, 0.8] as const
const ADAPTERS = 8
const TENANTS = 4
const QUESTIONS = 128
const COMPLETION_TOKENS = 24
const SEQUENCES = 16
/** The host's default; a tenant's own bound is as much. */
const QUEUE_DEPTH = 256
/** So long that two cores carry three times the requests, and the clients: see the README. */
const STEP_MS = 25
/** Of the closed loop, for each sequence: always work, and no line that would be refused. */
const CLIENTS_PER_SEQUENCE = 1.25
const REFUSED_PAUSE_MS = 20
const FINDINGS_SHOWN_MAX = 20

/** Fields of the report are explained in this folder's README. */
export async function runOverload({ seconds, capacitySeconds, seed }: OverloadOptions) {
  const binaries = findPostgres()
  if (binaries === null) throw new Error('this bench needs initdb and postgres in PATH')
  const directory = mkdtempSync(join(tmpdir(), 'nozzle-overload-'))
  const server = await startPostgres(binaries)
  let cluster: PoolCluster | null = null
  try {
    const set = await createQuestions({
      ...{ directory, seed, adapters: ADAPTERS, questions: QUESTIONS },
      completionTokens: COMPLETION_TOKENS,
    })
    cluster = await PoolCluster.start(server.url, set, {
      ...{ edges: 1, hosts: 1, tenants: TENANTS, seed },
      ...{ sequences: SEQUENCES, queueDepth: QUEUE_DEPTH, stepMs: STEP_MS },
    })
    const crowd = new Crowd(cluster, set, seed)
    const capacity = await crowd.closedLoop(capacitySeconds)
    note(`capacity: ${significant(capacity.requests, 3)} requests/s`)
    const phases: Phase[] = []
    for (const load of LOADS) {
      note(`${load} times as many for ${seconds / LOADS.length} s`)
      phases.push(await crowd.openLoop(load, capacity.requests, seconds / LOADS.length))
    }
    await crowd.gone()
    const books = await auditPool(cluster, server.url, crowd.replies)
    const admitted = crowd.replies.filter((reply) => !isRefused(reply))
    const faults = admitted.map(faultOf).filter((fault) => fault !== null)
    return {
      ...toFigures(phases, crowd.outcomes, capacity.tokens),
      capacity_requests_s: significant(capacity.requests, 3),
      seconds,
      requests: crowd.replies.length,
      asked: crowd.asked,
      refused: crowd.replies.length - admitted.length,
      refused_without_retry_after: crowd.replies.filter(isMute).length,
      faults: faults.length,
      ...{ journal_tokens: books.journalTokens, ledger_tokens: books.ledgerTokens },
      client_tokens: crowd.replies.reduce((sum, { tokens }) => sum + tokens, 0),
      ...{ lost: books.lost, double: books.double },
      findings: [...faults, ...books.findings.map(({ what }) => what)].slice(0, FINDINGS_SHOWN_MAX),
    }
  } finally {
    await cluster?.stop()
    await server.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

export type OverloadReport = Awaited<ReturnType<typeof runOverload>>

/** Whether every request ended once, well or with a refusal, and all was charged as delivered. */
export function isOrderly(report: OverloadReport): boolean {
  const { asked, requests, faults, lost, double, journal_tokens, ledger_tokens } = report
  const isBooked = journal_tokens === ledger_tokens && journal_tokens === report.client_tokens
  return asked === requests && faults + lost + double === 0 && isBooked
}

function note(text: string): void {
  process.stderr.write(`overload: ${text}\n`)
}

function toFigures(phases: readonly Phase[], outcomes: readonly Outcome[], closedTokens: number) {
  const reports = phases.map((phase) => toPhaseReport(phase, outcomes))
  const lagMs = outcomes.map(({ dueMs, startMs }) => startMs - dueMs)
  const [calm, , worst] = reports
  const after = phases.at(-1)
  if (calm === undefined || worst === undefined || after === undefined) {
    throw new RangeError('an overload has four phases')
  }
  const peak = Math.max(closedTokens, ...reports.map((report) => report.goodput_tok_s))
  const { ttft_p99_ms: calmMs } = calm
  return {
    goodput_ratio: significant(worst.goodput_tok_s / peak, 3),
    p99_ratio: ratioOf(worst.ttft_p99_ms, calmMs),
    refusal_p99_ms: worst.refusal_p99_ms,
    recovery_s: calmMs === null ? null : recoverySeconds(outcomes, after, calmMs),
    peak_tok_s: significant(peak),
    client_lag_p99_ms: significant(percentile(lagMs, 0.99), 3),
    phases: reports,
  }
}

function ratioOf(value: number | null, base: number | null): number | null {
  return value === null || base === null ? null : significant(value / base, 3)
}

/** Turned away before its first token because the host is full. */
function isRefused({ status, errorCode, tokens }: Reply): boolean {
  return status === 503 && errorCode === 'overloaded' && tokens === 0
}

/** A refusal that does not say when to come back. */
function isMute(reply: Reply): boolean {
  return isRefused(reply) && reply.retryAfter === null
}

/** All clients: they share connections, and nobody waits for a free one. */
class Crowd {
  readonly replies: Reply[] = []
  /** Of the open loops. */
  readonly outcomes: Outcome[] = []
  asked = 0
  readonly #cluster: PoolCluster
  readonly #set: QuestionSet
  readonly #random: Random
  readonly #agent = new Agent({ keepAlive: true })
  readonly #open: Promise<void>[] = []

  constructor(cluster: PoolCluster, set: QuestionSet, seed: number) {
    this.#cluster = cluster
    this.#set = set
    this.#random = new Random('overload', seed)
  }

  /** Requests and tokens a second that are served when there is always work. */
  async closedLoop(seconds: number): Promise<{ requests: number; tokens: number }> {
    const outcomes: Outcome[] = []
    const fromMs = performance.now()
    const toMs = fromMs + seconds * 1000
    const client = async (): Promise<void> => {
      while (performance.now() < toMs) {
        const outcome = toOutcome(await this.#ask(), performance.now())
        outcomes.push(outcome)
        if (outcome.kind === 'refused') await sleep(REFUSED_PAUSE_MS)
      }
    }
    await Promise.all(Array.from({ length: SEQUENCES * CLIENTS_PER_SEQUENCE }, client))
    // The first answers brought adapters along.
    const tokens = goodput(outcomes, fromMs + (toMs - fromMs) / 4, toMs)
    return { requests: tokens / COMPLETION_TOKENS, tokens }
  }

  /** Poisson arrivals; resolves when the last of them is due, not when it is answered. */
  async openLoop(load: number, capacity: number, seconds: number): Promise<Phase> {
    const fromMs = performance.now()
    const toMs = fromMs + seconds * 1000
    const gapMs = () => (-Math.log(1 - this.#random.fraction()) * 1000) / (load * capacity)
    for (let dueMs = fromMs + gapMs(); dueMs < toMs; dueMs += gapMs()) {
      const waitMs = dueMs - performance.now()
      if (waitMs > 0) await sleep(waitMs)
      this.#open.push(this.#askAt(dueMs))
    }
    await sleep(Math.max(0, toMs - performance.now()))
    return { load, fromMs, toMs }
  }

  /** Resolves when everybody has an answer. */
  async gone(): Promise<void> {
    await Promise.all(this.#open)
    this.#agent.destroy()
  }

  async #askAt(dueMs: number): Promise<void> {
    this.outcomes.push(toOutcome(await this.#ask(), dueMs))
  }

  async #ask(): Promise<Reply> {
    const number = this.asked++
    const reply = await visit({
      ...toVisit(this.#set, this.#set.questions, number, this.#cluster.edges),
      tenant: this.#cluster.tenant(this.#random.integer(TENANTS)),
      ...{ agent: this.#agent, isStream: true, leave: null },
    })
    this.replies.push(reply)
    return reply
  }
}

function toOutcome(reply: Reply, dueMs: number): Outcome {
  const { startMs, firstTokenMs, endMs, tokens } = reply
  const kind = isRefused(reply) ? 'refused' : faultOf(reply) === null ? 'served' : 'failed'
  return { dueMs, startMs, firstTokenMs, endMs, kind, tokens }
}
