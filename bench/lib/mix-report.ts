/** Figures of rounds → the report of `mix`. Pure. */
import type { PeerRun, Workload } from '../peers/protocol.ts'
import { median, significant } from './statistics.ts'

/** One runner's figures of one round. */
export interface Figures {
  readonly speeds: Record<Workload, number>
  /** Leading tokens of `distinct` that equal ours, mean of the requests. */
  agreed: number
}

export interface NamedPeer {
  readonly name: string
  readonly settings: Readonly<Record<string, unknown>>
}

/** vLLM reads other files than Nozzle; a peer on llama.cpp reads the same ones. */
const IN_OTHER_FORMATS = 'vllm'

/** Mean length of what the two say alike before they first differ. */
export function countAgreed(ours: PeerRun | undefined, theirs: PeerRun | undefined): number {
  const lengths = (ours?.completions ?? []).map((mine, request) => {
    const other = theirs?.completions[request] ?? []
    const end = mine.findIndex((token, index) => token !== other[index])
    return end < 0 ? mine.length : end
  })
  return lengths.reduce((sum, length) => sum + length, 0) / Math.max(1, lengths.length)
}

/**
 * Speeds are medians over rounds; ratios are medians of each round's own ratio. In a round the
 * first figures are ours, the others the peers' in order. `peer` and `ratio_peer` are of the peer
 * that decodes `distinct` fastest: of those on llama.cpp where one took part, else of vLLM.
 */
export function toReport(rounds: readonly (readonly Figures[])[], peers: readonly NamedPeer[]) {
  const medianOf = (value: (round: readonly Figures[]) => number): number =>
    significant(median(rounds.map(value)))
  const speed = (round: readonly Figures[], runner: number, workload: Workload): number =>
    round[runner]?.speeds[workload] ?? Number.NaN
  const details = peers.map(({ name, settings }, index) => {
    const of = (workload: Workload): number =>
      medianOf((round) => speed(round, index + 1, workload))
    return {
      peer: name,
      distinct_tok_s: of('distinct'),
      same_tok_s: of('same'),
      base_tok_s: of('base'),
      ratio: medianOf((round) => speed(round, 0, 'distinct') / speed(round, index + 1, 'distinct')),
      agreed_tokens: medianOf((round) => round[index + 1]?.agreed ?? Number.NaN),
      settings,
    }
  })
  const onSameFiles = details.filter(({ peer }) => peer !== IN_OTHER_FORMATS)
  const fastest = (onSameFiles.length > 0 ? onSameFiles : details).reduce<
    (typeof details)[number] | null
  >((best, one) => (best !== null && best.distinct_tok_s >= one.distinct_tok_s ? best : one), null)
  return {
    distinct_tok_s: medianOf((round) => speed(round, 0, 'distinct')),
    same_tok_s: medianOf((round) => speed(round, 0, 'same')),
    base_tok_s: medianOf((round) => speed(round, 0, 'base')),
    peer: fastest?.peer ?? null,
    peer_distinct_tok_s: fastest?.distinct_tok_s ?? null,
    peer_same_tok_s: fastest?.same_tok_s ?? null,
    peer_base_tok_s: fastest?.base_tok_s ?? null,
    ratio_same: medianOf((round) => speed(round, 0, 'distinct') / speed(round, 0, 'same')),
    ratio_base: medianOf((round) => speed(round, 0, 'distinct') / speed(round, 0, 'base')),
    ratio_peer: fastest?.ratio ?? null,
    peers: details,
  }
}
