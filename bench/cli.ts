/**
 * `npm run --silent bench -- <name>`: runs one benchmark; with --json its last line is the report.
 */
import { parseArgs } from 'node:util'
import { POPULARITIES } from '../native/test/support/popularity.ts'
import { runBase } from './base.ts'
import { runChurn } from './churn.ts'
import { isMetered, runEdge } from './edge.ts'
import { runFair } from './fair.ts'
import { isSound, runFault } from './fault.ts'
import { checkFleet } from './fleet/real-pool.ts'
import { POLICIES, type PolicyName } from './fleet/routers.ts'
import { ARRIVALS } from './fleet/traffic.ts'
import { runFleet } from './fleet.ts'
import { ISOLATION_PARTS, type IsolationPart, isIsolated, runIsolation } from './isolation.ts'
import { SHAPES } from './lib/base-model.ts'
import { isExact, runLoad } from './load.ts'
import { runMix } from './mix.ts'
import { runNewcomer } from './newcomer.ts'
import { isOrderly, runOverload } from './overload.ts'
import { PEERS, type PeerName } from './peers/start-peer.ts'
import { runPolicy } from './policy.ts'
import { runPrefix } from './prefix.ts'
import { runRanks } from './ranks.ts'
import { isUnnoticed, runRolling } from './rolling.ts'
import { runSwap } from './swap.ts'
import { runVllm } from './vllm.ts'

const USAGE = `usage: npm run --silent bench -- <name> [options]

  mix    N sequences decode at once, each with its own adapter, against one adapter and peers
         --tenants N (8)  --tokens N (64)  --no-peer
         --peer NAME,… (node-llama-cpp): node-llama-cpp, llama-server, vllm
  base   no adapters: decoding and prefill against llama.cpp's own llama-batched-bench
         --tokens N (64) decoding steps
  ranks  what ranks from 4 to 256 cost, alone and in one batch
         --tokens N (64) decoding steps
  swap   time from "adapter not in a slot" to "its first row can run"
         --swaps N (200) loads per tier and round
  prefix a prompt of 1000 tokens until its first token, with and without its pages cached
  churn  thousands of adapters over a few slots through the whole host; every reply is checked
         --adapters N (2000)  --slots N (32)  --clients N (16)  --requests N (20000)
         --popularity identical|distinct|uniform|skewed|zipf (zipf)
  edge   what the edge adds to asking a host itself, on Node and in workerd, and requests a second
         with a host that computes nothing, beside LiteLLM and Portkey; exit code 1 if a request was
         not charged
         --requests N (200) for latency, of each way and round  --clients N (2) at once
         --seconds S (5) of each closed loop  --no-peer  --profile DIR of the edge's CPU
  fault  seeded crash points: is a token ever lost, charged twice, or charged and not delivered?
         exit code 1 if one is
         --seed N (1)  --points N (1000) cases, of which --real N (210) kill real processes
         --lanes N (2)  --case N alone
  fleet  simulated pool: Nozzle's routing against others', on the same requests
         --hosts N (100)  --tenants N (100 a host)  --edges N (2)  --seed N (1)
         --requests N (100 a host, 20000 at least)  --load F (0.6) of the pool's capacity
         --policy NAME,…|all (all)  --arrivals zipf|bursty (zipf)
         --check: instead, the same requests through a real pool of three hosts and through the
         simulation of it  --requests N (400)
  isolation  do tenants or adapters ever meet on a host? every token known, random worlds of
         identities, what the cache tells by its timing, what is left of one for the next;
         exit code 1 if they do
         --seed N (1)  --requests N (200000)  --cases N (100000)  --samples N (1000)
         --rounds N (20)  --adapters N (10)  --prefixes N (8)
         --part answers|identity|timing|work|residue,… (answers,identity,timing,residue)
  load   streams at once through 2 edges and 3 hosts, every answer known: is a chunk lost, doubled
         or out of order, does memory grow? exit code 1 if a chunk is, or if the books differ
         --streams N (1000)  --seconds S (600)  --seed N (1)
  vllm   hosts on the real vLLM: every promise tried from outside, answers held against those of
         transformers; exit code 1 if one is broken; installs 5.9 GB once
  rolling  hosts drained and started anew, one after the other, under streams whose answers are
         known: is one cut? exit code 1 if one is, or if the books differ
         --drains N (100)  --streams N (200)  --seed N (1)
  fair   a flood of one tenant: the first tokens of another, and who gets how much
         --prompt-tokens N (128) of their requests
  overload  0.8, 1.5, 3 and 0.8 times what a host can serve, sent through an edge: goodput, first
         tokens, refusals, recovery; exit code 1 if a request or a token is lost
         --minutes N (1) of these four together  --seed N (1)
  newcomer  a fresh clone with empty caches: npm start, an adapter deployed, its first answer, then
         deploys until their first token; downloads what a first start downloads
         --deploys N (20)
  policy eviction and start policies on simulated traffic, 2, 10 and 100 adapters per slot

  --shape NAME        small, demo, 1b, 7b: random weights in Q8_0; default: what npm start serves
                      (demo; churn: small)
  --rank N            adapter rank, on all seven linear layers (16; small: 4)
  --rounds N          repetitions; figures are medians (5)
  --threads N         engine threads, 0 = one per core (churn: as the host starts) (0)
  --json              the report as one line of JSON`

const EXIT_USAGE = 2
const RANK = 16
const LOAD_STREAMS = 1000
const ROLLING_STREAMS = 200
const ISOLATION = {
  ...{ requests: 200_000, cases: 100_000, samples: 1000 },
  ...{ rounds: 20, adapters: 10, prefixes: 8 },
}
const ISOLATION_DEFAULT = 'answers,identity,timing,residue'
/** Keeps an adapter's share of the base's bytes near that of the other shapes. */
const SMALL_RANK = 4
/** The closed loop before `overload`. */
const CAPACITY_SECONDS = 10
const TENANTS = 8
const REQUESTS = 20_000
const ADAPTERS = 2000
const ROUNDS = 5
/** Of `edge`. */
const EDGE_REQUESTS = 200
const EDGE_CLIENTS = 2
const EDGE_SECONDS = 5
const CHURN_CLIENTS = 16
const LOAD_SECONDS = 600
/** What a simulated host has, unless it is said. */
const TENANTS_PER_HOST = 100
const REQUESTS_PER_HOST = 100
/** Of the check on a real pool; about half a minute of them. */
const CHECK_REQUESTS = 400

type CountName =
  | 'hosts'
  | 'edges'
  | 'tenants'
  | 'swaps'
  | 'tokens'
  | 'rank'
  | 'rounds'
  | 'threads'
  | 'adapters'
  | 'slots'
  | 'clients'
  | 'requests'
  | 'seed'
  | 'points'
  | 'real'
  | 'lanes'
  | 'case'
  | 'streams'
  | 'deploys'
  | 'drains'
  | 'seconds'
  | 'minutes'
  | 'prompt-tokens'
  | 'cases'
  | 'samples'
  | 'prefixes'

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      shape: { type: 'string' },
      hosts: { type: 'string', default: '100' },
      edges: { type: 'string', default: '2' },
      policy: { type: 'string', multiple: true, default: ['all'] },
      arrivals: { type: 'string', default: 'zipf' },
      load: { type: 'string', default: '0.6' },
      tenants: { type: 'string' },
      swaps: { type: 'string', default: '200' },
      adapters: { type: 'string' },
      cases: { type: 'string' },
      samples: { type: 'string' },
      prefixes: { type: 'string' },
      part: { type: 'string', default: ISOLATION_DEFAULT },
      slots: { type: 'string', default: '32' },
      clients: { type: 'string' },
      requests: { type: 'string' },
      popularity: { type: 'string', default: 'zipf' },
      rank: { type: 'string' },
      rounds: { type: 'string' },
      threads: { type: 'string', default: '0' },
      tokens: { type: 'string', default: '64' },
      seed: { type: 'string', default: '1' },
      points: { type: 'string', default: '1000' },
      real: { type: 'string', default: '210' },
      lanes: { type: 'string', default: '2' },
      case: { type: 'string' },
      streams: { type: 'string' },
      deploys: { type: 'string', default: '20' },
      drains: { type: 'string', default: '100' },
      seconds: { type: 'string' },
      minutes: { type: 'string', default: '1' },
      'prompt-tokens': { type: 'string', default: '128' },
      peer: { type: 'string', multiple: true, default: ['node-llama-cpp'] },
      check: { type: 'boolean', default: false },
      'no-peer': { type: 'boolean', default: false },
      profile: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return void process.stdout.write(`${USAGE}\n`)
  const name = positionals[0]
  const shape = oneOf(SHAPES, values.shape ?? (name === 'churn' ? 'small' : 'demo'), '--shape')
  const popularity = oneOf(POPULARITIES, values.popularity, '--popularity')
  const count = (name: CountName, min: number, fallback = 0): number => {
    const value = Number(values[name] ?? fallback)
    if (Number.isInteger(value) && value >= min) return value
    throw new RangeError(`--${name} must be an integer of at least ${min}`)
  }
  const common = {
    shape,
    rank: count('rank', 1, shape === 'small' ? SMALL_RANK : RANK),
    threads: count('threads', 0),
  }
  const runs = {
    mix: () =>
      runMix({
        ...common,
        tenants: count('tenants', 1, TENANTS),
        rounds: count('rounds', 1, ROUNDS),
        tokens: count('tokens', 1),
        peers: values['no-peer'] ? [] : toPeers(values.peer),
      }),
    base: () =>
      runBase({
        ...{ shape, threads: common.threads },
        tokens: count('tokens', 1),
        rounds: count('rounds', 1, ROUNDS),
      }),
    ranks: () =>
      runRanks({
        ...{ shape, threads: common.threads },
        tokens: count('tokens', 1),
        rounds: count('rounds', 1, ROUNDS),
      }),
    swap: () =>
      runSwap({ ...common, swaps: count('swaps', 20), rounds: count('rounds', 1, ROUNDS) }),
    prefix: () =>
      runPrefix({ ...{ shape, threads: common.threads }, rounds: count('rounds', 1, ROUNDS) }),
    policy: () => Promise.resolve(runPolicy({ rounds: count('rounds', 1, ROUNDS) })),
    fair: () =>
      runFair({
        ...{ shape, threads: common.threads },
        ...{ rounds: count('rounds', 1, ROUNDS), promptTokens: count('prompt-tokens', 1) },
      }),
    edge: async () => {
      const report = await runEdge({
        rounds: count('rounds', 1, ROUNDS),
        requests: count('requests', 1, EDGE_REQUESTS),
        clients: count('clients', 1, EDGE_CLIENTS),
        seconds: count('seconds', 1, EDGE_SECONDS),
        withPeers: !values['no-peer'],
        profileTo: values.profile ?? null,
      })
      if (!isMetered(report)) process.exitCode = 1
      return report
    },
    fault: async () => {
      const report = await runFault({
        seed: count('seed', 0),
        points: count('points', 1),
        real: count('real', 0),
        lanes: count('lanes', 1),
        only: values.case === undefined ? null : count('case', 0),
      })
      if (!isSound(report)) process.exitCode = 1
      return report
    },
    fleet: (): Promise<object> => {
      if (values.check) {
        return checkFleet({
          seed: count('seed', 0),
          requests: count('requests', 40, CHECK_REQUESTS),
          load: toShare(values.load, '--load'),
        })
      }
      const hosts = count('hosts', 1)
      return Promise.resolve(
        runFleet({
          hosts,
          tenants: count('tenants', 1, TENANTS_PER_HOST * hosts),
          edges: count('edges', 1),
          requests: count('requests', 1, Math.max(REQUESTS, REQUESTS_PER_HOST * hosts)),
          arrivals: oneOf(ARRIVALS, values.arrivals, '--arrivals'),
          load: toShare(values.load, '--load'),
          seed: count('seed', 0),
          policies: toPolicies(values.policy),
        }),
      )
    },
    newcomer: () => runNewcomer({ deploys: count('deploys', 1) }),
    rolling: async () => {
      const report = await runRolling({
        drains: count('drains', 1),
        streams: count('streams', 1, ROLLING_STREAMS),
        seed: count('seed', 0),
      })
      if (!isUnnoticed(report)) process.exitCode = 1
      return report
    },
    overload: async () => {
      const report = await runOverload({
        seconds: 60 * count('minutes', 1),
        capacitySeconds: CAPACITY_SECONDS,
        seed: count('seed', 0),
      })
      if (!isOrderly(report)) process.exitCode = 1
      return report
    },
    isolation: async () => {
      const report = await runIsolation({
        seed: count('seed', 0),
        requests: count('requests', 1, ISOLATION.requests),
        cases: count('cases', 1, ISOLATION.cases),
        samples: count('samples', 10, ISOLATION.samples),
        rounds: count('rounds', 1, ISOLATION.rounds),
        adapters: count('adapters', 2, ISOLATION.adapters),
        prefixes: count('prefixes', 1, ISOLATION.prefixes),
        parts: toParts(values.part),
      })
      if (!isIsolated(report)) process.exitCode = 1
      return report
    },
    load: async () => {
      const report = await runLoad({
        streams: count('streams', 1, LOAD_STREAMS),
        seconds: count('seconds', 10, LOAD_SECONDS),
        seed: count('seed', 0),
      })
      if (!isExact(report)) process.exitCode = 1
      return report
    },
    vllm: async () => {
      const report = await runVllm((line) => process.stderr.write(`${line}\n`))
      if (report.broken !== null) process.exitCode = 1
      return report
    },
    churn: () =>
      runChurn({
        ...common,
        popularity,
        rounds: count('rounds', 1, ROUNDS),
        adapters: count('adapters', 1, ADAPTERS),
        slots: count('slots', 2),
        clients: count('clients', 1, CHURN_CLIENTS),
        requests: count('requests', 1, REQUESTS),
      }),
  }
  if (positionals.length !== 1 || !isNameOf(runs, name)) {
    throw new RangeError(`name one benchmark: ${Object.keys(runs).join(', ')}`)
  }
  const report = await runs[name]()
  process.stdout.write(`${values.json ? JSON.stringify(report) : toLines(report)}\n`)
}

function oneOf<T extends string>(names: readonly T[], value: string, flag: string): T {
  const name = names.find((known) => known === value)
  if (name === undefined) throw new RangeError(`${flag} must be one of ${names.join(', ')}`)
  return name
}

function isNameOf<T extends object>(table: T, name: string | undefined): name is keyof T & string {
  return name !== undefined && Object.hasOwn(table, name)
}

function toShare(value: string, flag: string): number {
  const share = Number(value)
  if (share > 0 && share <= 2) return share
  throw new RangeError(`${flag} must be a number above 0, at most 2`)
}

function toPolicies(values: readonly string[]): PolicyName[] {
  const names = values.flatMap((value) => value.split(','))
  if (names.includes('all')) return [...POLICIES]
  return [...new Set(names.map((name) => oneOf(POLICIES, name.trim(), '--policy')))]
}

function toParts(value: string): IsolationPart[] {
  return value.split(',').map((name) => oneOf(ISOLATION_PARTS, name.trim(), '--part'))
}

function toPeers(values: readonly string[]): PeerName[] {
  const names = values.flatMap((value) => value.split(','))
  return [...new Set(names.map((name) => oneOf(PEERS, name.trim(), '--peer')))]
}

function toLines(report: object): string {
  return Object.entries(report)
    .map(([name, value]) => `${name}: ${typeof value === 'object' ? JSON.stringify(value) : value}`)
    .join('\n')
}

main().catch((error: unknown) => {
  const isUsage = error instanceof RangeError || (error instanceof TypeError && 'code' in error)
  process.stderr.write(isUsage ? `bench: ${error.message}\n\n${USAGE}\n` : `bench: ${error}\n`)
  process.exitCode = isUsage ? EXIT_USAGE : 1
})
