import { describe, expect, it } from 'vitest'
import type { Heartbeat } from '../protocol.ts'
import { VirtualClock } from '../test/support/virtual-clock.ts'
import { EdgeFailover, type EdgePort } from './edge-client.ts'
import { runHeartbeat } from './heartbeat.ts'
import { createMetrics } from './metrics.ts'

/** Beats for a while; how many each edge was told, and when. */
async function beatFor(ms: number, edge: EdgePort): Promise<void> {
  const clock = new VirtualClock()
  const stop = new AbortController()
  const metrics = createMetrics({ withProcess: false })
  // What a beat says is not looked at here.
  const status = () => ({}) as Heartbeat
  const running = runHeartbeat(
    {
      ...{ edge, status, metrics, clock, log: () => {} },
      ...{ intervalMs: 1000, timeoutMs: 3000, onEpochStale: () => {}, onWish: () => {} },
      onStored: () => {},
    },
    stop.signal,
  )
  await clock.advance(ms)
  stop.abort()
  await clock.advance(1000)
  await running
}

describe('a heartbeat', () => {
  it('goes out each second, and none is made up for', async () => {
    let beats = 0
    await beatFor(9999, {
      post: async () => {
        beats += 1
        if (beats % 2 === 0) throw new Error('lost')
        return null
      },
    })
    expect(beats).toBe(10)
  })

  it('does not wait for the one before, and piles up no more than three', async () => {
    let beats = 0
    const answers: (() => void)[] = []
    const running = beatFor(9999, {
      post: () => {
        beats += 1
        return new Promise((resolve) => answers.push(() => resolve(null)))
      },
    })
    await new Promise((resolve) => setTimeout(resolve, 50))
    const waiting = beats
    for (const answer of answers) answer()
    await running
    expect([waiting, beats]).toEqual([3, 3])
  })
})

describe('a report to one of several edges', () => {
  const edgeOf = (name: string, isUp: () => boolean, asked: string[]): EdgePort => ({
    post: async () => {
      asked.push(name)
      if (!isUp()) throw new Error(`${name} is away`)
      return name
    },
  })

  it('goes to the one that answered last, and to the next when that one does not', async () => {
    const asked: string[] = []
    let isUp = true
    const edges = [edgeOf('a', () => isUp, asked), edgeOf('b', () => true, asked)]
    const failover = new EdgeFailover(edges)
    const post = () => failover.post('/', 'r', {}, 1000)
    expect([await post(), await post()]).toEqual(['a', 'a'])
    isUp = false
    expect([await post(), await post()]).toEqual(['b', 'b'])
    expect(asked).toEqual(['a', 'a', 'a', 'b', 'b'])
  })

  it('fails when none answers, with the reason of the last', async () => {
    const asked: string[] = []
    const failover = new EdgeFailover([
      edgeOf('a', () => false, asked),
      edgeOf('b', () => false, asked),
    ])
    await expect(failover.post('/', 'r', {}, 1000)).rejects.toThrow('b is away')
    expect(asked).toEqual(['a', 'b'])
  })
})
