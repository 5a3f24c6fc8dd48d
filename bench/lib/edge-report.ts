/** Times of rounds → what a gateway adds to asking the host itself. Pure. */
import { median, percentile, significant } from './statistics.ts'

/** Milliseconds. */
export interface Spread {
  readonly p50: number
  readonly p99: number
}

/** The same requests, asked of the host and through a gateway in turns. */
export interface Round {
  readonly direct: readonly number[]
  readonly via: readonly number[]
}

export interface AddedLatency {
  readonly direct_ms: Spread
  readonly edge_ms: Spread
  /** A percentile through the gateway less the same one of the host. */
  readonly added_ms: Spread
}

const SHARES = { p50: 0.5, p99: 0.99 } as const

/** Each figure is the median of the rounds' own. Throws where there is no round. */
export function toAddedLatency(rounds: readonly Round[]): AddedLatency {
  const figure = (of: (round: Round, share: number) => number): Spread => {
    const at = (share: number) => significant(median(rounds.map((round) => of(round, share))), 3)
    return { p50: at(SHARES.p50), p99: at(SHARES.p99) }
  }
  return {
    direct_ms: figure(({ direct }, share) => percentile(direct, share)),
    edge_ms: figure(({ via }, share) => percentile(via, share)),
    added_ms: figure(
      ({ direct, via }, share) => percentile(via, share) - percentile(direct, share),
    ),
  }
}

/** How many times as much another gateway adds: the median of the rounds' own ratios. */
export function ratioOfAdded(
  theirs: readonly Round[],
  ours: readonly Round[],
  share: number,
): number {
  const added = ({ direct, via }: Round) => percentile(via, share) - percentile(direct, share)
  const ratios = theirs.flatMap((round, i) => {
    const own = ours[i]
    return own === undefined ? [] : [added(round) / added(own)]
  })
  return significant(median(ratios), 3)
}
