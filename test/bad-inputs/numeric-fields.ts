/**
 * B2: every number that a client can say, as values around its bounds and around those of machine
 * words. What is legal is said here again, field by field, and not taken from the parser.
 */
import {
  type BadCase,
  CaseList,
  CHAT_PATH,
  chatMembers,
  type Expected,
  LEGAL,
  objectText,
  post,
  refusedAt,
  TEXT_PATH,
  textMembers,
  type World,
  withMember,
} from './bad-case.ts'

interface NumberField {
  readonly path: 'chat' | 'text'
  readonly field: string
  /** Of the value's text → the body's value. */
  readonly wrap?: (value: string) => string
  readonly isWhole: boolean
  readonly min: number
  readonly max: number
  /** Members that it needs beside it. */
  readonly beside?: readonly (readonly [string, string])[]
}

const whole = (path: NumberField['path'], field: string, min: number, max: number) =>
  ({ path, field, isWhole: true, min, max }) satisfies NumberField
const real = (path: NumberField['path'], field: string, min: number, max: number) =>
  ({ path, field, isWhole: false, min, max }) satisfies NumberField

const SAFE = Number.MAX_SAFE_INTEGER
const FIELDS: readonly NumberField[] = [
  whole('chat', 'n', 1, 16),
  whole('chat', 'max_tokens', 1, SAFE),
  whole('chat', 'max_completion_tokens', 1, SAFE),
  whole('chat', 'top_k', -1, 1000),
  { ...whole('chat', 'top_logprobs', 0, 20), beside: [['logprobs', 'true']] },
  whole('chat', 'seed', -SAFE, SAFE),
  real('chat', 'temperature', 0, 2),
  real('chat', 'top_p', 0, 1),
  real('chat', 'min_p', 0, 1),
  real('chat', 'frequency_penalty', -2, 2),
  real('chat', 'presence_penalty', -2, 2),
  // Above 0: the least that is taken is the least number there is.
  real('chat', 'repetition_penalty', Number.MIN_VALUE, 2),
  { ...real('chat', 'logit_bias', -100, 100), wrap: (value) => `{"5":${value}}` },
  whole('text', 'max_tokens', 1, SAFE),
  whole('text', 'n', 1, 16),
  whole('text', 'logprobs', 0, 5),
  whole('text', 'seed', -SAFE, SAFE),
  { ...whole('text', 'best_of', 1, 1), beside: [['n', '1']] },
]

/** Of llama-server and others; none is served, so none may be passed over. */
const FOREIGN_FIELDS = [
  'n_keep',
  'n_discard',
  'n_predict',
  'id_slot',
  'min_keep',
  'prompt_logprobs',
]

const VALUES: readonly string[] = [
  ...[
    '-1',
    '0',
    '-0',
    '1',
    '2',
    '16',
    '17',
    '0.5',
    '1.0000001',
    '-0.5',
    '2.5',
    '100.5',
    '-101',
    '1001',
  ],
  ...[
    '2147483647',
    '2147483648',
    '2147483649',
    '-2147483648',
    '-2147483649',
    '4294967295',
    '4294967296',
  ],
  ...['9007199254740991', '9007199254740992', '9007199254740993', '-9007199254740993'],
  ...[
    '9223372036854775807',
    '18446744073709551616',
    '1e308',
    '-1e308',
    '1e999',
    '-1e999',
    '1e-320',
  ],
]
const NO_NUMBERS: readonly string[] = ['"1"', 'true', '[]', '[1]', '{}']

export function numericFields(world: World): BadCase[] {
  const list = new CaseList('B2')
  const key = world.tenantKey
  const send = (
    path: 'chat' | 'text',
    title: string,
    field: string,
    value: string,
    expected: Expected,
    beside: NumberField['beside'] = [],
  ): void => {
    let members = path === 'chat' ? chatMembers(world) : textMembers(world)
    for (const [name, text] of [...beside, [field, value] as const]) {
      members = withMember(members, name, text)
    }
    list.add(
      title,
      post(path === 'chat' ? CHAT_PATH : TEXT_PATH, key, objectText(members)),
      expected,
    )
  }
  for (const { path, field, wrap = (text: string) => text, isWhole, min, max, beside } of FIELDS) {
    const wrong = refusedAt(new RegExp(`^${field}`))
    for (const text of VALUES) {
      const value = Number(text)
      const isLegal =
        value >= min &&
        value <= max &&
        Number.isFinite(value) &&
        (!isWhole || Number.isInteger(value))
      send(path, `${field} ${text} (${path})`, field, wrap(text), isLegal ? LEGAL : wrong, beside)
    }
    for (const text of NO_NUMBERS) {
      send(path, `${field} ${text} (${path})`, field, wrap(text), wrong, beside)
    }
    send(path, `${field} null (${path})`, field, 'null', LEGAL, beside)
  }
  for (const field of FOREIGN_FIELDS) {
    for (const text of ['-1', '0', '2147483648', '1e999']) {
      send('chat', `${field} ${text}`, field, text, refusedAt(field))
    }
  }
  for (const token of [
    '-1',
    '1.5',
    'x',
    '',
    ' 5',
    '0x5',
    '1e3',
    '9'.repeat(30),
    '4294967296',
    '٣',
  ]) {
    const bias = objectText([[token, '1']])
    send(
      'chat',
      `bias of token ${JSON.stringify(token)}`,
      'logit_bias',
      bias,
      refusedAt(/^logit_bias/),
    )
  }
  const many = Array.from({ length: 100_000 }, (_, i): [string, string] => [String(i), '1'])
  send(
    'chat',
    'a hundred thousand biases',
    'logit_bias',
    objectText(many),
    refusedAt(/^logit_bias/),
  )
  for (const deadline of ['-1', '0', '1.5', 'x', '1e3', '99999999', '3600001', ' ', '0x10']) {
    const { headers, ...input } = post(CHAT_PATH, key, objectText(chatMembers(world)))
    const said = { ...headers, 'x-nozzle-deadline-ms': deadline }
    list.add(`deadline ${deadline}`, { ...input, headers: said }, refusedAt('x-nozzle-deadline-ms'))
  }
  return list.cases
}
