import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { TokenLogprobs } from '../protocol.ts'
import { TextOutput } from './text-output.ts'

const logprobOf = (bytes: Uint8Array): TokenLogprobs => ({
  token: new TextDecoder().decode(bytes),
  bytes: [...bytes],
  logprob: -1,
  top: [],
})

function run(stops: string[], tokens: Uint8Array[]) {
  const output = new TextOutput(stops)
  const shown = { text: '', logprobs: [] as TokenLogprobs[], isStopped: false }
  const take = (piece: ReturnType<TextOutput['end']>): void => {
    expect(piece.tokens).toBe(piece.logprobs.length)
    shown.text += piece.text
    shown.logprobs.push(...piece.logprobs)
    shown.isStopped = piece.isStopped
  }
  for (const bytes of tokens) {
    take(output.push(bytes, logprobOf(bytes)))
    // At no time may a log probability be out whose text is not.
    const told = shown.logprobs.reduce((sum, { bytes: { length } }) => sum + length, 0)
    expect(told).toBeLessThanOrEqual(Buffer.byteLength(shown.text))
    if (shown.isStopped) return shown
  }
  take(output.end())
  return shown
}

/** `text` in UTF-8, cut anywhere, also within characters. */
function cut(text: string, cuts: readonly number[]): Uint8Array[] {
  const bytes = Buffer.from(text)
  const edges = [0, ...cuts.map((at) => at % (bytes.length + 1)).sort((a, b) => a - b)]
  return edges.map((begin, i) => new Uint8Array(bytes.subarray(begin, edges[i + 1])))
}

const letters = fc.string({ unit: fc.constantFrom('a', 'é', '日', '😀'), maxLength: 20 })
const stop = fc.string({ unit: fc.constantFrom('a', 'é', '日', '😀'), minLength: 1, maxLength: 3 })
const cuts = fc.array(fc.nat({ max: 80 }), { maxLength: 12 })

describe('TextOutput', () => {
  it('gives every token its log probability when nothing stops it', () => {
    fc.assert(
      fc.property(letters, cuts, (text, at) => {
        const tokens = cut(text, at)
        const shown = run([], tokens)
        expect(shown.text).toBe(text)
        expect(shown.logprobs.map(({ bytes }) => bytes)).toEqual(tokens.map((bytes) => [...bytes]))
      }),
    )
  })

  it('tells neither text nor log probability of a stop string, however it is cut', () => {
    fc.assert(
      fc.property(letters, stop, cuts, (text, stopText, at) => {
        const found = text.indexOf(stopText)
        const shown = run([stopText], cut(text, at))
        expect(shown.isStopped).toBe(found >= 0)
        const expected = found < 0 ? text : text.slice(0, found)
        expect(shown.text).toBe(expected)
        const told = Buffer.from(shown.logprobs.flatMap(({ bytes }) => bytes))
        expect(Buffer.from(expected).subarray(0, told.length).equals(told)).toBe(true)
      }),
    )
  })
})
