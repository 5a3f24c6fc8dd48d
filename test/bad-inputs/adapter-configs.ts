/** B7: adapter_config.json with what PEFT knows and no host serves, and with what nobody knows. */
import { partsOf, upload } from './adapter-world.ts'
import {
  type BadCase,
  CaseList,
  EITHER,
  type Expected,
  LEGAL,
  nested,
  objectText,
  refusedAt,
  type World,
} from './bad-case.ts'

const j = JSON.stringify

/** PEFT's own fields that would change a result, each with a value that does. */
const UNSERVED: Readonly<Record<string, string>> = {
  use_dora: 'true',
  modules_to_save: '["lm_head"]',
  lora_bias: 'true',
  fan_in_fan_out: 'true',
  trainable_token_indices: '[1]',
  target_parameters: '["x"]',
  layer_replication: '[[0,1]]',
  loftq_config: '{"loftq_bits":4}',
  corda_config: '{"x":1}',
  alora_invocation_tokens: '[1]',
  arrow_config: '{"x":1}',
  megatron_config: '{"x":1}',
  use_qalora: 'true',
  use_bdlora: '{"x":1}',
  lora_ga_config: '{"x":1}',
  velora_config: '{"x":1}',
}

const FIELD_VALUES: Readonly<Record<string, readonly string[]>> = {
  peft_type: ['null', '"lora"', '"IA3"', '"LORA\\u0000"', '1', '[]', '["LORA"]', '"ᏞORA"'],
  task_type: ['"SEQ_CLS"', '1', '[]', '{}', 'true', '"CAUSAL_LM "'],
  r: [
    '0',
    '-1',
    '1.5',
    '1e999',
    '"4"',
    'null',
    '[]',
    '[4]',
    '{}',
    'true',
    '3',
    '5',
    '17',
    '1000000',
    '2147483648',
    '9007199254740993',
    '1e308',
    '-0',
    '1e-320',
  ],
  lora_alpha: ['1e999', '-1e999', '"4"', 'null', '[]', '{}', 'true', '1e308', '-1e308'],
  use_rslora: ['"true"', '1', '[]', '{}', '"x"'],
  target_modules: [
    ...[
      '""',
      '[]',
      '1',
      'true',
      '{}',
      'null',
      '[1]',
      '[[]]',
      '["nothing"]',
      '["lm_head"]',
      '["embed_tokens"]',
      '["q_prоj"]',
    ],
    ...[
      '["../q_proj"]',
      '["q_proj\\u0000"]',
      '[".*"]',
      '"("',
      '"["',
      '"(?=q)"',
      '"q{2}"',
      '"\\\\1"',
      '"(a+)+$"',
      '"nothing"',
    ],
    ...[
      j(`${'('.repeat(80)}.${')*'.repeat(80)}x`),
      j(`${'(.*)*'.repeat(50)}x`),
      j(`${'.*'.repeat(120)}x`),
      j('a'.repeat(257)),
    ],
    ...[j(`${'('.repeat(60)}m*${'o*)*'.repeat(48)}`), j('(?:(?:(?:.?)*)*)*!')],
  ],
  exclude_modules: ['1', 'true', '{}', '[1]', '"("', j('x'.repeat(300)), '["q_proj"]', '".*"'],
  rank_pattern: [
    ...[
      '1',
      '[]',
      '"x"',
      '{"q_proj":0}',
      '{"q_proj":-1}',
      '{"q_proj":1.5}',
      '{"q_proj":"4"}',
      '{"q_proj":3}',
      '{"(":1}',
    ],
    ...[
      '{"q_proj":1000000}',
      '{"__proto__":4,"q_proj":3}',
      j({ [`${'('.repeat(80)}.${')*'.repeat(80)}`]: 3 }),
    ],
    j(Object.fromEntries(Array.from({ length: 1025 }, (_, i) => [`m${i}`, 1]))),
    j(Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`(x${i}|y)*(.*)*z`, 1]))),
  ],
  alpha_pattern: [
    '1',
    '[]',
    '"x"',
    '{"q_proj":"4"}',
    '{"q_proj":1e999}',
    '{"q_proj":1e308}',
    '{"(":1}',
    '{"q_proj":null}',
  ],
  layers_to_transform: [
    '-1',
    '1.5',
    '"0"',
    '[-1]',
    '[1.5]',
    '["0"]',
    '{}',
    'true',
    '[99]',
    '0',
    '[0]',
  ],
  layers_pattern: ['1', '{}', '[1]'],
  bias: ['"all"', '"lora_only"', 'true', '1', '[]'],
  init_lora_weights: [
    '"pissa"',
    '"olora"',
    '"loftq"',
    '"pissa_niter_16"',
    '1',
    '[]',
    '{}',
    '"corda"',
    '"nothing"',
  ],
}

/** Served, and no better for it. */
const ODD: Readonly<Record<string, readonly string[]>> = {
  // Overflows at the first token: that request ends, and no other.
  lora_alpha: ['3.5e38', '-3.5e38', '0', '-4', '1e-320'],
  rank_pattern: [
    j(Object.fromEntries(Array.from({ length: 90 }, (_, i) => [`(a|b)*c${i}`, 1]))),
    j(Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`(x${i}|y)*(.*)*z`, 1]))),
  ],
  target_modules: [j('(?:(?:(?:.?)*)*)*'), j(`${'('.repeat(80)}.${')*'.repeat(80)}`)],
}

export function adapterConfigs(world: World): BadCase[] {
  const list = new CaseList('B7')
  const { config } = partsOf(world)
  const members = Object.entries(config).map(([name, value]): [string, string] => [name, j(value)])
  const send = (
    title: string,
    text: () => string | Uint8Array<ArrayBuffer>,
    expected: Expected,
  ): void => list.add(title, upload(world, text), expected)
  const change = (name: string, value: string): string =>
    objectText([...members.filter(([known]) => known !== name), [name, value]])
  const whole = objectText(members)
  const any = refusedAt(/./)

  send('as it is', () => whole, LEGAL)
  for (const [field, value] of Object.entries(UNSERVED)) {
    send(`${field} ${value}`, () => change(field, value), refusedAt(field))
    send(`${field} null`, () => change(field, 'null'), LEGAL)
  }
  for (const [field, values] of Object.entries(FIELD_VALUES)) {
    for (const value of values) {
      // Where the weights do not fit what the config says, the tensor is named.
      send(`${field} ${value.slice(0, 50)}`, () => change(field, value), any)
    }
  }
  for (const [field, values] of Object.entries(ODD)) {
    for (const value of values)
      send(`${field} ${value.slice(0, 50)}`, () => change(field, value), LEGAL)
  }
  for (const field of ['peft_type', 'r', 'lora_alpha', 'target_modules']) {
    const without = objectText(members.filter(([name]) => name !== field))
    send(`without ${field}`, () => without, refusedAt(field))
  }
  for (const field of [
    'x',
    '__proto__',
    'constructor',
    'toString',
    'auto_mapping\u0000',
    '../r',
    'R',
    'lora_r',
    'п',
  ]) {
    send(`a field ${j(field)}`, () => change(field, '{"a":1}'), any)
    const ofNull = field === '__proto__' ? refusedAt(field) : LEGAL
    send(`a field ${j(field)} of null`, () => change(field, 'null'), ofNull)
  }
  for (const name of ['r', 'peft_type', 'target_modules', 'use_dora']) {
    send(`${name} twice`, () => objectText([...members, [name, '1'], [name, '2']]), refusedAt(name))
  }
  for (const base of [
    '"../../etc/passwd"',
    '"http://169.254.169.254/"',
    '"\\u0000"',
    j('x'.repeat(50_000)),
    '1',
    '{}',
    '[]',
  ]) {
    send(
      `base_model_name_or_path ${base.slice(0, 30)}`,
      () => change('base_model_name_or_path', base),
      EITHER,
    )
  }
  for (let length = 0; length < whole.length; length += 7) {
    send(`cut off after ${length} bytes`, () => whole.slice(0, length), any)
  }
  for (const text of [
    'null',
    '[]',
    '1',
    '"x"',
    'true',
    ' ',
    `${whole}x`,
    `${whole}${whole}`,
    `/**/${whole}`,
    whole.replaceAll('"', "'"),
  ]) {
    send(`is ${text.slice(0, 20)}`, () => text, any)
  }
  for (const depth of [33, 1000, 10_000]) {
    for (const field of ['use_dora', 'target_modules', 'auto_mapping', 'x']) {
      send(`${field} nested ${depth} deep`, () => change(field, nested(depth)), any)
      send(`${field} nested ${depth} deep in objects`, () => change(field, nested(depth, 'a')), any)
    }
  }
  for (const bytes of [65_000, 65_536, 65_537, 262_145, 2_000_000]) {
    const expected = bytes > 65_536 ? any : LEGAL
    send(`${bytes} bytes`, () => whole + ' '.repeat(bytes - Buffer.byteLength(whole)), expected)
  }
  send('a byte order mark', () => `\ufeff${whole}`, any)
  send('UTF-16', () => Uint8Array.from(Buffer.from(whole, 'utf16le')), any)
  send('a byte that is no UTF-8', () => Uint8Array.from([...Buffer.from(whole), 0xff]), any)
  send(
    'a jinja template',
    () => change('chat_template', j('{{ self.__init__.__globals__ }}')),
    refusedAt('chat_template'),
  )
  return list.cases
}
