import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type AnswerPiece, ToolCallReader } from './tool-call-reader.ts'

const OFFERED = new Set(['add', 'now'])

/** What each cut of the text says, with texts that follow each other joined. */
function read(parts: readonly string[]): (string | { name: string; arguments: string })[] {
  const reader = new ToolCallReader(OFFERED)
  const pieces = [...parts.flatMap((part) => reader.take(part)), ...reader.end()]
  return joined(pieces)
}

function joined(pieces: readonly AnswerPiece[]) {
  const all: (string | { name: string; arguments: string })[] = []
  for (const piece of pieces) {
    const last = all.at(-1)
    if (piece.kind === 'call') all.push(piece.call)
    else if (typeof last === 'string') all[all.length - 1] = last + piece.text
    else all.push(piece.text)
  }
  return all
}

const call = (given: string, name = 'add'): string =>
  `<tool_call>\n{"name": "${name}", "arguments": ${given}}\n</tool_call>`
const add = (given: string) => ({ name: 'add', arguments: given })

const CASES: readonly (readonly [string, string, unknown[]])[] = [
  ['text', 'Hello, <b>you</b>!\n\n', ['Hello, <b>you</b>!\n\n']],
  ['nothing', '', []],
  ['a call', call('{"a": 1}'), [add('{"a": 1}')]],
  ['text before a call', `Let me see.\n\n${call('{}')}\n`, ['Let me see.', add('{}')]],
  ['text behind a call', `${call('{}')}\nDone.`, [add('{}'), '\nDone.']],
  [
    'two calls',
    `${call('{}')}\n${call('{}', 'now')}`,
    [add('{}'), { name: 'now', arguments: '{}' }],
  ],
  ['calls side by side', call('{}') + call('{"b":2}'), [add('{}'), add('{"b":2}')]],
  ['a call without its last mark', '<tool_call>{"name":"add","arguments":{}}', [add('{}')]],
  [
    'calls without their last marks',
    '<tool_call>{"name":"add"}\n<tool_call>{"name":"add","arguments":{"a":1}}',
    [add('{}'), add('{"a":1}')],
  ],
  [
    'marks within arguments',
    call('{"a": "</tool_call><tool_call>{"}'),
    [add('{"a": "</tool_call><tool_call>{"}')],
  ],
  ['brackets and quotes within arguments', call('{"a": "}\\"}]{"}'), [add('{"a": "}\\"}]{"}')]],
  ['a tool that was not offered', call('{}', 'rm'), [call('{}', 'rm')]],
  ['no JSON', '<tool_call>add(1)</tool_call> so', ['<tool_call>add(1)</tool_call> so']],
  [
    'JSON that is none',
    '<tool_call>{"name": add}</tool_call>',
    ['<tool_call>{"name": add}</tool_call>'],
  ],
  [
    'a call that is cut off',
    ' x <tool_call>\n{"name": "add", "argu',
    [' x <tool_call>\n{"name": "add", "argu'],
  ],
  ['a mark that is cut off', 'x\n<tool_c', ['x\n<tool_c']],
  ['a mark that begins twice', `<<tool_<${call('{}')}`, ['<<tool_<', add('{}')]],
  ['a mark within no call', `<tool_call><${call('{}')}`, ['<tool_call><', add('{}')]],
  ['what begins as a last mark', `${call('{}')}</tool</b>`, [add('{}'), '</tool</b>']],
  [
    'a last mark that begins a call',
    `<tool_call>{"name":"add"}<${call('{}')}`,
    [add('{}'), '<', add('{}')],
  ],
]

describe('ToolCallReader', () => {
  it.each(CASES)('reads %s, however it is cut', (_, text, expected) => {
    expect(read([text])).toEqual(expected)
    expect(read([...text])).toEqual(expected)
    for (let at = 0; at <= text.length; at++) {
      expect(read([text.slice(0, at), text.slice(at)]), `cut at ${at}`).toEqual(expected)
    }
  })

  it('loses and adds nothing, whatever the text and its cuts', () => {
    const part = fc.constantFrom(
      ...[
        '<',
        '<tool_call>',
        '</tool_call>',
        call('{"a": 1}'),
        call('{}', 'rm'),
        '{"name": "add"',
        '}',
      ],
      ...['"', '\\', '\n', ' ', 'é', 'text', '<tool_'],
    )
    fc.assert(
      fc.property(fc.array(part, { maxLength: 12 }), fc.array(fc.nat(400)), (parts, cuts) => {
        const text = parts.join('')
        const places = [0, ...cuts.map((cut) => cut % (text.length + 1)), text.length]
        places.sort((a, b) => a - b)
        const pieces = places.slice(1).map((to, index) => text.slice(places[index], to))
        const whole = read([text])
        expect(read(pieces)).toEqual(whole)
        // What a call is shown as stands in the text; without calls the text is all there.
        if (whole.every((one) => typeof one === 'string')) expect(whole.join('')).toBe(text)
        for (const one of whole) {
          if (typeof one !== 'string' && one.arguments !== '{}') {
            expect(text).toContain(one.arguments)
          }
        }
      }),
      { numRuns: 2000 },
    )
  })

  it('tells text at once, and holds back only what may begin a call', () => {
    const reader = new ToolCallReader(OFFERED)
    expect(reader.take('See')).toEqual([{ kind: 'text', text: 'See' }])
    expect(reader.take(':\n<tool')).toEqual([{ kind: 'text', text: ':' }])
    expect(reader.take('box>')).toEqual([{ kind: 'text', text: '\n<toolbox>' }])
    expect(reader.take('<tool_call>{"name":"add"')).toEqual([])
    expect(reader.take('}')).toEqual([{ kind: 'call', call: add('{}') }])
  })

  it('takes as long for a text as it is long', () => {
    const reader = new ToolCallReader(OFFERED)
    const signs = 400_000
    reader.take('<tool_call>{"name":"add","arguments":{"a":"')
    for (let count = 0; count < signs; count++) reader.take('x')
    const [piece] = reader.take('"}}')
    expect(piece).toEqual({ kind: 'call', call: add(`{"a":"${'x'.repeat(signs)}"}`) })
  })
})
