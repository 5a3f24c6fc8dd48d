/** B3: prompts from nothing to megabytes, as tokens, text and messages; what tokenizers dread. */
import {
  type BadCase,
  CaseList,
  CHAT_PATH,
  CLOSED,
  EITHER,
  type Expected,
  LEGAL,
  post,
  refusedAt,
  TEXT_PATH,
  type World,
} from './bad-case.ts'

const REPEATED: Readonly<Record<string, string>> = {
  letters: 'a',
  blanks: ' ',
  'line ends': '\n',
  'CR LF': '\r\n',
  digits: '7',
  'digits in Arabic': '٣',
  marks: '!',
  'apostrophes and s': "'s",
  words: 'the ',
  Chinese: '漢',
  emoji: '👩‍👩‍👧',
  'combining marks': 'e\u0301\u0301',
  'right to left': '\u202eא',
  'zero width': '\u200b',
  'special tokens': '<|im_start|>',
  'ends of text': '<|endoftext|>',
  'template code': '{{ messages[0] }}{% for x in range(9) %}',
  zeros: '\0',
}
const LENGTHS = [600, 50_000, 600_000]

export function promptSizes(world: World): BadCase[] {
  const list = new CaseList('B3')
  const { model, contextLength: context, tenantKey: key } = world
  const rest = { model, max_tokens: 1 }
  const text = (title: string, prompt: () => unknown, expected: Expected): void =>
    list.add(
      title,
      post(TEXT_PATH, key, () => JSON.stringify({ ...rest, prompt: prompt() })),
      expected,
    )
  const chat = (title: string, content: () => string, expected: Expected): void => {
    const body = () => JSON.stringify({ ...rest, messages: [{ role: 'user', content: content() }] })
    list.add(title, post(CHAT_PATH, key, body), expected)
  }
  const tooLong = refusedAt(/^(messages|prompt)$/)
  for (const length of [1, 2, 15, 16, 17, context - 2, context - 1]) {
    text(`${length} tokens`, () => Array(length).fill(5), LEGAL)
  }
  for (const length of [context, context + 1, 2 * context, 100_000, 1_000_000]) {
    text(`${length} tokens`, () => Array(length).fill(5), tooLong)
  }
  text('no tokens', () => [], refusedAt(/^prompt/))
  text('no text', () => '', refusedAt(/^prompt/))
  chat('no text', () => '', LEGAL)
  text('one character', () => 'a', LEGAL)
  for (const token of [0, 1, 2, world.vocabularySize - 1])
    text(`token ${token}`, () => [token], LEGAL)
  for (const token of [
    world.vocabularySize,
    world.vocabularySize + 1,
    2 ** 31 - 1,
    2 ** 31,
    2 ** 32,
  ]) {
    text(`token ${token}`, () => [token], refusedAt(/^prompt/))
  }
  const everyByte = Array.from({ length: 256 }, (_, code) => String.fromCharCode(code)).join('')
  text('every byte', () => everyByte, LEGAL)
  for (const [what, piece] of Object.entries(REPEATED)) {
    for (const length of LENGTHS) {
      const many = (): string => piece.repeat(Math.ceil(length / piece.length))
      text(`${length} of ${what}`, many, EITHER)
      chat(`${length} of ${what} in a message`, many, EITHER)
    }
  }
  for (const megabytes of [3, 4, 10]) {
    const expected = megabytes > 3 ? CLOSED : tooLong
    text(`${megabytes} MB`, () => 'lorem '.repeat((megabytes * 1024 * 1024) / 6), expected)
  }
  for (const count of [0, 2048, 2049, 20_000]) {
    const body = () =>
      JSON.stringify({ ...rest, messages: Array(count).fill({ role: 'user', content: 'x' }) })
    list.add(`${count} messages`, post(CHAT_PATH, key, body), refusedAt('messages'))
  }
  for (const name of ['', 'x'.repeat(65), '<|im_end|>', '\n', "'}}{{", '\u0000']) {
    const messages = [{ role: 'user', content: 'x', name }]
    const expected = name.length > 64 ? refusedAt('messages.0.name') : EITHER
    list.add(
      `name ${JSON.stringify(name)}`,
      post(CHAT_PATH, key, JSON.stringify({ ...rest, messages })),
      expected,
    )
  }
  for (const stop of [[], [''], ['x'.repeat(257)], Array(5).fill('x'), ['\u0000'], ['\ud800']]) {
    const body = JSON.stringify({ ...rest, prompt: 'x', stop })
    list.add(`stop ${JSON.stringify(stop).slice(0, 20)}`, post(TEXT_PATH, key, body), EITHER)
  }
  return list.cases
}
