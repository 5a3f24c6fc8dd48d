import { describe, expect, it } from 'vitest'
import { countAgreed, type Figures, toReport } from './mix-report.ts'

const figures = (distinct: number, same: number, base: number): Figures => ({
  speeds: { distinct, same, base },
  agreed: 2,
})
const peer = (name: string) => ({ name, settings: {} })

describe('toReport', () => {
  it('takes the median of the ratios of each round, not the ratio of the medians', () => {
    const rounds = [
      [figures(100, 100, 200), figures(50, 80, 90)],
      [figures(10, 20, 20), figures(2, 3, 4)],
      [figures(90, 100, 100), figures(30, 80, 90)],
    ]
    const report = toReport(rounds, [peer('node-llama-cpp')])
    expect(report).toMatchObject({ distinct_tok_s: 90, ratio_same: 0.9, ratio_base: 0.5 })
    expect(report).toMatchObject({ peer_distinct_tok_s: 30, ratio_peer: 3 })
  })

  it('is judged by the fastest peer on the same files, and says how each did', () => {
    const rounds = [[figures(100, 1, 1), figures(20, 1, 1), figures(25, 1, 1), figures(50, 1, 1)]]
    const peers = ['node-llama-cpp', 'llama-server', 'vllm'].map(peer)
    const report = toReport(rounds, peers)
    expect(report).toMatchObject({ peer: 'llama-server', ratio_peer: 4 })
    expect(report.peers.map(({ ratio }) => ratio)).toEqual([5, 4, 2])
    expect(toReport([[figures(100, 1, 1), figures(50, 1, 1)]], [peer('vllm')])).toMatchObject({
      peer: 'vllm',
      ratio_peer: 2,
    })
  })

  it('has no peer fields without a peer', () => {
    const report = toReport([[figures(3, 2, 1)]], [])
    expect(report).toMatchObject({ peer: null, peer_distinct_tok_s: null, ratio_peer: null })
  })
})

it('countAgreed stops at the first token that differs', () => {
  const run = (...completions: number[][]) => ({ tokensPerSecond: 1, completions })
  expect(countAgreed(run([1, 2, 3], [4, 5, 6]), run([1, 2, 3], [4, 9, 6]))).toBe(2)
})
