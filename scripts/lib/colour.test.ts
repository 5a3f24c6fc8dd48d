import { describe, expect, it } from 'vitest'
import { hasColour, paintOn } from './colour.ts'
import { createOutput } from './output.ts'

describe('hasColour', () => {
  it.each([
    [{}, true, true],
    [{}, false, false],
    [{ NO_COLOR: '1' }, true, false],
    [{ NO_COLOR: '' }, true, true],
    [{ NO_COLOR: '1', FORCE_COLOR: '1' }, true, false],
    [{ TERM: 'dumb' }, true, false],
    [{ FORCE_COLOR: '1' }, false, true],
    [{ FORCE_COLOR: '0' }, true, false],
  ])('with %j, on a terminal: %j → %j', (env, isTerminal, expected) => {
    expect(hasColour(env, isTerminal)).toBe(expected)
  })
})

describe('paintOn', () => {
  it('colours, or leaves alone', () => {
    expect(paintOn(true)('bad', 'no')).toBe('\x1b[31mno\x1b[39m')
    expect(paintOn(false)('bad', 'no')).toBe('no')
  })
})

describe('createOutput', () => {
  it('draws no line twice on a terminal that cannot', () => {
    const terminal = { write: () => {}, isTTY: true }
    expect(createOutput(false, terminal, terminal, {}).redraw).not.toBeNull()
    expect(createOutput(false, terminal, terminal, { TERM: 'dumb' }).redraw).toBeNull()
  })
})
