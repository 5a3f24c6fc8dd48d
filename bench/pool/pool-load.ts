/**
 * Clients in a closed loop on the edges of a pool: each asks its next question when the last has
 * ended. Questions go round, so that no two that run at once have the same answer, and tenants and
 * edges take turns over the same connections.
 */
import { Agent } from 'node:http'
import { Random } from '../../native/test/support/random.ts'
import type { PoolCluster, PoolEdge } from './pool-cluster.ts'
import type { Question, QuestionSet } from './questions.ts'
import { type LeavePoint, type Reply, type Visit, visit } from './visitor.ts'

export interface PoolLoadOptions {
  readonly clients: number
  readonly seed: number
  /** Of requests; the others want the whole reply at once. */
  readonly streamShare: number
  /** Most connections to each edge, kept for further requests; absent = one for each request. */
  readonly connections?: number
  /** Absent = nobody leaves. */
  readonly leaveOf?: (random: Random) => LeavePoint | null
  /** Absent = all edges by turns. */
  readonly edges?: readonly PoolEdge[]
  /** Absent = until `stop`. */
  readonly requests?: number
  /** Sees each reply at its end; absent = all are kept in `replies`. */
  readonly take?: (reply: Reply) => void
}

/** Longer than anything that the edge itself waits for. */
const SILENCE_MS = 60_000

export class PoolLoad {
  readonly replies: Reply[] = []
  readonly #cluster: PoolCluster
  readonly #set: QuestionSet
  readonly #options: PoolLoadOptions
  readonly #agent: Agent
  readonly #running: Promise<void>[]
  #asked = 0
  #isOver = false

  constructor(cluster: PoolCluster, set: QuestionSet, options: PoolLoadOptions) {
    if (options.clients > set.questions.length) {
      throw new RangeError('two clients would ask the same question at once')
    }
    this.#cluster = cluster
    this.#set = set
    this.#options = options
    const { connections } = options
    this.#agent =
      connections === undefined
        ? new Agent()
        : new Agent({ keepAlive: true, maxSockets: connections, scheduling: 'fifo' })
    this.#running = Array.from({ length: options.clients }, () => this.#askOn())
  }

  /** Resolves when so many replies have ended. */
  get done(): Promise<unknown> {
    return Promise.all(this.#running)
  }

  /** Resolves when the last answer is there. */
  async stop(): Promise<void> {
    this.#isOver = true
    await this.done
    this.#agent.destroy()
  }

  async #askOn(): Promise<void> {
    const { requests = Number.POSITIVE_INFINITY, take } = this.#options
    while (!this.#isOver && this.#asked < requests) {
      const reply = await visit(this.#plan(this.#asked++))
      if (take === undefined) this.replies.push(reply)
      else take(reply)
    }
  }

  #plan(number: number): Visit {
    const { seed, streamShare, leaveOf, edges = this.#cluster.edges } = this.#options
    const random = new Random('visit', seed, number)
    return {
      ...toVisit(this.#set, this.#set.questions, number, edges),
      agent: this.#agent,
      tenant: this.#cluster.tenant(random.integer(this.#cluster.tenants.length)),
      isStream: random.fraction() < streamShare,
      leave: leaveOf?.(random) ?? null,
    }
  }
}

/** So many streams for one adapter of one tenant, none of which waits for another; cut short. */
export async function askAtOnce(
  cluster: PoolCluster,
  set: QuestionSet,
  {
    count,
    adapter,
    completionTokens,
  }: { readonly count: number; readonly adapter: number; readonly completionTokens: number },
): Promise<Reply[]> {
  const agent = new Agent({ keepAlive: true })
  const own = set.questions.filter((question) => question.adapter === adapter)
  const plan = (_: unknown, number: number): Visit => ({
    ...toVisit(set, own, number, cluster.edges),
    ...{ agent, tenant: cluster.tenant(0), isStream: true, leave: null, completionTokens },
  })
  const replies = await Promise.all(Array.from({ length: count }, plan).map(visit))
  agent.destroy()
  return replies
}

/** Questions and edges by turns. */
export function toVisit(
  set: QuestionSet,
  questions: readonly Question[],
  number: number,
  edges: readonly PoolEdge[],
) {
  const question = questions[number % questions.length]
  const edge = edges[number % edges.length]
  const adapter = set.adapters[question?.adapter ?? -1]
  if (question === undefined || edge === undefined || adapter === undefined) {
    throw new Error('a load needs questions, adapters and edges')
  }
  return {
    ...{ number, question },
    edgeUrl: edge.url,
    model: adapter.name,
    completionTokens: set.completionTokens,
    silenceMs: SILENCE_MS,
  }
}
