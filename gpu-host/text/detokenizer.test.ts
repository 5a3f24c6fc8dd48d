import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Detokenizer } from './detokenizer.ts'

function split(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const edges = [0, ...[...cuts].sort((a, b) => a - b), bytes.length]
  return edges.slice(1).map((end, i) => bytes.subarray(edges[i], end))
}

describe('Detokenizer', () => {
  it('holds a character back until its last byte', () => {
    const detokenizer = new Detokenizer()
    const [a, b, c, d] = new TextEncoder().encode('😀')
    const push = (byte: number | undefined): string => detokenizer.push(Uint8Array.of(byte ?? 0))
    expect([push(a), push(b), push(c), push(d)]).toEqual(['', '', '', '😀'])
    expect(detokenizer.flush()).toBe('')
  })

  it('shows an unfinished character at the end as U+FFFD', () => {
    const detokenizer = new Detokenizer()
    expect(detokenizer.push(Uint8Array.of(0x41, 0xe2, 0x82))).toBe('A')
    expect(detokenizer.flush()).toBe('\ufffd')
  })

  it('keeps a byte order mark that the model wrote', () => {
    expect(new Detokenizer().push(Uint8Array.of(0xef, 0xbb, 0xbf, 0x41))).toBe('\ufeffA')
  })

  it('gives the same text however the bytes are cut, valid or not', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 40 }),
        fc.array(fc.nat({ max: 40 }), { maxLength: 10 }),
        (bytes, cuts) => {
          const detokenizer = new Detokenizer()
          const pieces = split(
            bytes,
            cuts.map((cut) => Math.min(cut, bytes.length)),
          ).map((piece) => detokenizer.push(piece))
          const whole = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)
          expect(pieces.join('') + detokenizer.flush()).toBe(whole)
        },
      ),
    )
  })
})
