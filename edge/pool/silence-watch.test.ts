import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { SilenceWatch } from './silence-watch.ts'

const patience = { doubtMs: 1000, probeMs: 750, silenceMs: 1750, headersMs: 4000 }
let verdicts: string[] = []
let asked = 0
let isAlive = true
let answerMs = 5
/** Added to the clock, as if this process had been stopped. */
let stoppedMs = 0
let watch: SilenceWatch

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setImmediate', 'performance'] })
  verdicts = []
  asked = 0
  isAlive = true
  answerMs = 5
  stoppedMs = 0
  watch = new SilenceWatch({
    patience,
    nowMs: () => performance.now() + stoppedMs,
    onHeard: () => {},
    isAliveSince: async () => {
      asked += 1
      await new Promise((resolve) => setTimeout(resolve, isAlive ? answerMs : patience.probeMs))
      return isAlive
    },
    onVerdict: (verdict) => verdicts.push(verdict.message),
  })
})
afterEach(() => {
  watch.end()
  vi.useRealTimers()
})

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)

describe('a host that hangs', () => {
  it('is known within 1.8 s, before its headers and after', async () => {
    isAlive = false
    await pass(1700)
    expect(verdicts).toEqual([])
    await pass(100)
    expect(verdicts).toEqual(['the host does not say that it lives'])
  })

  it('is known within 1.8 s of the last thing it said', async () => {
    watch.begun()
    for (let i = 0; i < 20; i++) {
      await pass(500)
      watch.heard()
    }
    isAlive = false
    await pass(1700)
    expect(verdicts).toEqual([])
    await pass(100)
    expect(verdicts).toHaveLength(1)
  })
})

describe('a host that lives', () => {
  it('is never doubted while it says something each 500 ms', async () => {
    watch.begun()
    for (let i = 0; i < 1000; i++) {
      await pass(500)
      watch.heard()
    }
    expect([asked, verdicts]).toEqual([0, []])
  })

  it('has a dead connection when its stream stays silent', async () => {
    watch.begun()
    await pass(1700)
    expect([asked, verdicts]).toEqual([1, []])
    await pass(100)
    expect(verdicts).toEqual(['the host lives, and said nothing here for 1750 ms'])
  })

  it('may take its time before the headers', async () => {
    await pass(3900)
    expect(verdicts).toEqual([])
    await pass(200)
    expect(verdicts).toEqual(['the host lives, and said nothing here for 4000 ms'])
  })

  it('is trusted again when it speaks while it is being asked', async () => {
    watch.begun()
    answerMs = 400
    await pass(1200)
    watch.heard()
    isAlive = false
    await pass(1000)
    expect(verdicts).toEqual([])
  })
})

describe('time that is not the host’s', () => {
  it('does not count while a slow client has the last chunk', async () => {
    watch.begun()
    await pass(300)
    watch.pause()
    await pass(60_000)
    expect([asked, verdicts]).toEqual([0, []])
    watch.resume()
    isAlive = false
    await pass(600)
    expect(asked).toBe(0)
    await pass(2500)
    expect(verdicts).toHaveLength(1)
  })

  it('does not count while this process was stopped: what came meanwhile is read first', async () => {
    watch.begun()
    isAlive = false
    stoppedMs += 30_000
    await pass(1100)
    expect([asked, verdicts]).toEqual([0, []])
    watch.heard()
    await pass(900)
    expect([asked, verdicts]).toEqual([0, []])
  })
})
