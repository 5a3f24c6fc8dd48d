/**
 * `edge`: what the edge adds to asking a host itself, on Node and in workerd, and how many
 * authenticated and metered requests a second it serves, beside other gateways in front of the same
 * host. The host is a stub (`edge/stub-host.ts`); all it settled must be in the ledger at the end.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { Contest, type ContestResult, type Way } from './edge/contest.ts'
import { type EdgeRig, startEdgeRig } from './edge/edge-rig.ts'
import { ANSWER } from './edge/stub-protocol.ts'
import { readChargesAt } from './fault/charges.ts'
import { ratioOfAdded, toAddedLatency } from './lib/edge-report.ts'
import { freePorts } from './lib/free-ports.ts'
import type { GatewayPeer, GatewaySetup } from './peers/gateway.ts'
import { startLitellm } from './peers/litellm.ts'
import { startPortkey } from './peers/portkey.ts'

export interface EdgeOptions {
  readonly rounds: number
  /** For latency, of each way, kind and round. */
  readonly requests: number
  /** At once, for latency. */
  readonly clients: number
  /** Of each closed loop. */
  readonly seconds: number
  /** Other gateways too. */
  readonly withPeers: boolean
  /** Directory for a CPU profile of the edge on Node; null = none. */
  readonly profileTo: string | null
}

/** At once, for throughput. */
const CROWD = 32
const PEERS = { litellm: startLitellm, portkey: startPortkey }

/** Fields of the report are explained in this folder's README. */
export async function runEdge({ profileTo, ...options }: EdgeOptions) {
  const directory = mkdtempSync(join(tmpdir(), 'nozzle-edge-bench-'))
  const [node = 0, workerd = 0, host = 0, ...peerPorts] = await freePorts(5)
  const rig = await startEdgeRig({ ports: { node, workerd, host }, directory, profileTo })
  const peers = new Peers()
  let contest: Contest | null = null
  try {
    if (options.withPeers) await peers.start(peerPorts, rig.hostUrl, directory)
    const ways = [rig.node, rig.workerd, ...peers.ways]
    contest = new Contest(rig.direct, ways, { ...options, crowd: CROWD })
    const result = await contest.run(note)
    return {
      ...toFigures(result, rig.node.name),
      workerd: toFigures(result, rig.workerd.name),
      peers: peers.running.map(({ name, peer }) =>
        toPeerFigures(result, name, rig.node.name, peer.release),
      ),
      absent: peers.absent,
      ...(await audit(rig, result)),
      ...{ rounds: options.rounds, requests: options.requests, clients: options.clients },
      ...{ crowd: CROWD, seconds: options.seconds, cores: availableParallelism() },
    }
  } finally {
    await contest?.close()
    await peers.stop()
    await rig.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

export type EdgeReport = Awaited<ReturnType<typeof runEdge>>

/** Whether each answer that came through an edge was charged, once and in full. */
export function isMetered({ answers, charges, answer_tokens, ledger_tokens }: EdgeReport): boolean {
  return answers === charges && answer_tokens === ledger_tokens
}

function note(text: string): void {
  process.stderr.write(`edge: ${text}\n`)
}

/** The other gateways, where they can be had. */
class Peers {
  readonly running: { name: string; peer: GatewayPeer }[] = []
  readonly absent: { name: string; reason: string }[] = []

  get ways(): Way[] {
    return this.running.map(({ name, peer: { call, cpuMs } }) => ({ name, call, cpuMs }))
  }

  async start(ports: readonly number[], hostUrl: string, directory: string): Promise<void> {
    for (const [i, [name, start]] of Object.entries(PEERS).entries()) {
      const setup: GatewaySetup = { port: ports[i] ?? 0, hostUrl, directory }
      try {
        this.running.push({ name, peer: await start(setup) })
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error)
        note(`without ${name}: ${reason}`)
        this.absent.push({ name, reason })
      }
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.running.map(({ peer }) => peer.stop()))
  }
}

/** Latency of whole replies, and of streams to their first token. */
function toFigures({ rounds, rps, cpu }: ContestResult, name: string) {
  const of = rounds.get(name)
  if (of === undefined) throw new RangeError(`${name} took no part`)
  return {
    runtime: name,
    ...toAddedLatency(of.whole),
    first_token: toAddedLatency(of.stream),
    rps: rps.get(name) ?? 0,
    cpu_ms: cpu.get(name) ?? null,
  }
}

function toPeerFigures(result: ContestResult, name: string, own: string, release: string) {
  const { runtime: _, ...figures } = toFigures(result, name)
  const [theirs, ours] = [result.rounds.get(name), result.rounds.get(own)]
  const ratio = (share: number) => ratioOfAdded(theirs?.whole ?? [], ours?.whole ?? [], share)
  return { name, release, ...figures, ratio_added: { p50: ratio(0.5), p99: ratio(0.99) } }
}

async function audit(rig: EdgeRig, { answers }: ContestResult) {
  const settled = await rig.settledByHost()
  const charges = await readChargesAt(rig.databaseUrl, rig.tenant.id)
  const unpriced = charges.filter(
    ({ net_pusd: net, worth_pusd: worth }) => net !== worth || net <= 0n,
  )
  const came = (answers.get(rig.node.name) ?? 0) + (answers.get(rig.workerd.name) ?? 0)
  return {
    answers: came,
    settled,
    charges: charges.length - unpriced.length,
    answer_tokens: came * ANSWER.length,
    ledger_tokens: charges.reduce((sum, { completion_tokens: tokens }) => sum + tokens, 0),
  }
}
