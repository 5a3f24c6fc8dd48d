/**
 * The host itself and the gateways in front of it, asked the same by turns, so that whatever else
 * the machine does hits all alike: short blocks of requests for latency, closed loops for
 * throughput.
 */
import type { Round } from '../lib/edge-report.ts'
import { median, significant } from '../lib/statistics.ts'
import { type Call, Caller, KINDS, type Kind } from './caller.ts'

/** One way to the answer. */
export interface Way {
  readonly name: string
  readonly call: Call
  /** CPU time that it has used, milliseconds. */
  readonly cpuMs: () => number
}

/** CPU milliseconds of each that a request took. */
export interface CpuCost {
  readonly gateway: number
  readonly host: number
  readonly client: number
}

export interface ContestOptions {
  readonly rounds: number
  /** Of each way, kind and round. */
  readonly requests: number
  /** At once, for latency. */
  readonly clients: number
  /** Of each closed loop. */
  readonly seconds: number
  /** At once, for throughput. */
  readonly crowd: number
}

/** By name of the way. */
export interface ContestResult {
  readonly rounds: ReadonlyMap<string, Readonly<Record<Kind, Round[]>>>
  /** Requests a second, median of rounds. */
  readonly rps: ReadonlyMap<string, number>
  /** Of the closed loops, median of rounds. */
  readonly cpu: ReadonlyMap<string, CpuCost>
  /** All answers that came. */
  readonly answers: ReadonlyMap<string, number>
}

interface Loop {
  readonly rps: number
  readonly cpu: CpuCost
}

/** Requests of one way in a row: short, beside what a machine does for a second or two. */
const BLOCK_REQUESTS = 20
const WARM_UP_REQUESTS = 300
const WARM_UP_SHARE = 0.25

export class Contest {
  readonly #direct: Way
  readonly #ways: readonly Way[]
  readonly #options: ContestOptions
  readonly #answers = new Map<string, number>()

  constructor(direct: Way, ways: readonly Way[], options: ContestOptions) {
    this.#direct = direct
    this.#ways = ways
    this.#options = options
  }

  /** Rejects when any answer is not the host's. */
  async run(note: (text: string) => void): Promise<ContestResult> {
    const all = [this.#direct, ...this.#ways]
    for (const way of all) {
      for (const kind of KINDS) await this.#block(way, kind, WARM_UP_REQUESTS, this.#options.crowd)
    }
    const rounds = new Map(
      this.#ways.map(({ name }) => [name, { whole: [] as Round[], stream: [] as Round[] }]),
    )
    const loops = new Map(this.#ways.map(({ name }) => [name, [] as Loop[]]))
    for (let i = 0; i < this.#options.rounds; i++) {
      note(`round ${i + 1} of ${this.#options.rounds}`)
      for (const kind of KINDS) {
        const times = await this.#latencies(kind, i)
        const direct = times.get(this.#direct.name) ?? []
        for (const { name } of this.#ways) {
          rounds.get(name)?.[kind].push({ direct, via: times.get(name) ?? [] })
        }
      }
      for (const way of turned(this.#ways, i)) loops.get(way.name)?.push(await this.#loop(way))
    }
    const rps = new Map([...loops].map(([name, of]) => [name, middle(of, (loop) => loop.rps)]))
    const cpu = new Map([...loops].map(([name, of]) => [name, middleCost(of)]))
    return { rounds, rps, cpu, answers: this.#answers }
  }

  /** Milliseconds by way: of a stream until its first token, of a whole reply until its end. */
  async #latencies(kind: Kind, turn: number): Promise<Map<string, number[]>> {
    const all = [this.#direct, ...this.#ways]
    const times = new Map(all.map(({ name }) => [name, [] as number[]]))
    const blocks = Math.ceil(this.#options.requests / BLOCK_REQUESTS)
    for (let block = 0; block < blocks; block++) {
      for (const way of turned(all, turn + block)) {
        const taken = await this.#block(way, kind, BLOCK_REQUESTS, this.#options.clients)
        times.get(way.name)?.push(...taken)
      }
    }
    return times
  }

  async #block(way: Way, kind: Kind, requests: number, clients: number): Promise<number[]> {
    const times: number[] = []
    let left = requests
    await this.#crowd(way, clients, async (caller) => {
      while (left-- > 0) {
        const { firstMs, endMs } = await caller.ask(kind)
        times.push(kind === 'stream' ? firstMs : endMs)
      }
    })
    this.#count(way, requests)
    return times
  }

  /** Of whole replies, when there is always work. */
  async #loop(way: Way): Promise<Loop> {
    const { crowd, seconds } = this.#options
    await this.#loopFor(way, crowd, WARM_UP_SHARE * seconds)
    const before = this.#used(way)
    const requests = await this.#loopFor(way, crowd, seconds)
    const after = this.#used(way)
    const cost = (of: keyof CpuCost) => (after[of] - before[of]) / requests
    const cpu = { gateway: cost('gateway'), host: cost('host'), client: cost('client') }
    return { rps: (requests * 1000) / (after.atMs - before.atMs), cpu }
  }

  #used(way: Way): CpuCost & { readonly atMs: number } {
    const { user, system } = process.cpuUsage()
    const client = (user + system) / 1000
    return {
      ...{ gateway: way.cpuMs(), host: this.#direct.cpuMs(), client },
      atMs: performance.now(),
    }
  }

  /** Resolves to how many were answered. */
  async #loopFor(way: Way, crowd: number, seconds: number): Promise<number> {
    const untilMs = performance.now() + seconds * 1000
    let answers = 0
    await this.#crowd(way, crowd, async (caller) => {
      while (performance.now() < untilMs) {
        await caller.ask('whole')
        answers += 1
      }
    })
    this.#count(way, answers)
    return answers
  }

  async #crowd(
    { call }: Way,
    size: number,
    work: (caller: Caller) => Promise<void>,
  ): Promise<void> {
    const callers = this.#callersOf(call, size)
    await Promise.all(callers.map(work))
  }

  /** Connections stay open between blocks. */
  readonly #callers = new Map<Call, Caller[]>()

  #callersOf(call: Call, size: number): Caller[] {
    const callers = this.#callers.get(call) ?? []
    this.#callers.set(call, callers)
    while (callers.length < size) callers.push(new Caller(call))
    return callers.slice(0, size)
  }

  async close(): Promise<void> {
    await Promise.all([...this.#callers.values()].flat().map((caller) => caller.close()))
  }

  #count({ name }: Way, answers: number): void {
    this.#answers.set(name, (this.#answers.get(name) ?? 0) + answers)
  }
}

/** The same in another order each time, and each in another place. */
function turned<T>(values: readonly T[], by: number): T[] {
  const from = by % values.length
  return [...values.slice(from), ...values.slice(0, from)]
}

function middle(loops: readonly Loop[], of: (loop: Loop) => number): number {
  return significant(median(loops.map(of)), 3)
}

function middleCost(loops: readonly Loop[]): CpuCost {
  return {
    gateway: middle(loops, ({ cpu }) => cpu.gateway),
    host: middle(loops, ({ cpu }) => cpu.host),
    client: middle(loops, ({ cpu }) => cpu.client),
  }
}
