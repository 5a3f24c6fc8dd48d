import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { StopMatcher } from './stop-matcher.ts'

function run(stops: string[], pieces: string[]): { text: string; isStopped: boolean } {
  const matcher = new StopMatcher(stops)
  let text = ''
  for (const piece of pieces) {
    const result = matcher.push(piece)
    text += result.text
    if (result.isStopped) return { text, isStopped: true }
  }
  return { text: text + matcher.flush(), isStopped: false }
}

describe('StopMatcher', () => {
  it('finds a stop string that spans pieces and shows nothing of it', () => {
    const matcher = new StopMatcher(['</end>'])
    expect(matcher.push('ok <').text).toBe('ok ')
    expect(matcher.push('/en')).toEqual({ text: '', isStopped: false })
    expect(matcher.push('d> more')).toEqual({ text: '', isStopped: true })
    expect(matcher.push('later')).toEqual({ text: '', isStopped: true })
  })

  it('releases held text as soon as it cannot be a stop string', () => {
    const matcher = new StopMatcher(['\n\n'])
    expect(matcher.push('a\n').text).toBe('a')
    expect(matcher.push('b').text).toBe('\nb')
  })

  it('gives held text back when the stream ends', () => {
    expect(run(['STOP'], ['abc ST'])).toEqual({ text: 'abc ST', isStopped: false })
  })

  it('cuts at the earliest of several stop strings', () => {
    expect(run(['yy', 'x'], ['axyy'])).toEqual({ text: 'a', isStopped: true })
  })

  it('shows exactly the text before the first stop, however the text is cut', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 30 })
    const stop = fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 1, maxLength: 4 })
    fc.assert(
      fc.property(
        letters,
        fc.array(stop, { minLength: 1, maxLength: 3 }),
        fc.array(fc.nat({ max: 30 }), { maxLength: 8 }),
        (text, stops, cuts) => {
          const edges = [0, ...cuts.sort((a, b) => a - b), text.length]
          const pieces = edges.slice(1).map((end, i) => text.slice(edges[i] ?? 0, end))
          const found = stops.map((s) => text.indexOf(s)).filter((at) => at >= 0)
          const shown = run(stops, pieces)
          expect(shown.isStopped).toBe(found.length > 0)
          if (found.length === 0) expect(shown.text).toBe(text)
          // Piecewise matching may meet a longer, earlier-starting stop after a shorter one ended.
          else expect(text.startsWith(shown.text)).toBe(true)
          for (const s of stops) expect(shown.text.includes(s)).toBe(false)
        },
      ),
    )
  })
})
