/** B1: bodies that are no JSON, or JSON that no client means. */
import {
  type BadCase,
  CANARY,
  CaseList,
  CHAT_PATH,
  CLOSED,
  chatMembers,
  EITHER,
  LEGAL,
  nested,
  objectText,
  post,
  REFUSED,
  refusedAt,
  TEXT_PATH,
  textMembers,
  type World,
  withMember,
} from './bad-case.ts'

const MIB = 1024 * 1024
const POLLUTING = ['__proto__', 'constructor', 'prototype', 'toString', 'valueOf', 'hasOwnProperty']
const DEPTHS = [257, 1000, 10_000, 100_000, 1_000_000]
/** Fields that hold lists or objects of any kind, or are passed over. */
const DEEP_FIELDS = ['metadata', 'tools', 'stop', 'logit_bias', 'messages', 'response_format', 'x']

export function jsonBodies(world: World): BadCase[] {
  const list = new CaseList('B1')
  const key = world.tenantKey
  const members = chatMembers(world)
  const whole = objectText(members)
  const send = (title: string, body: string | Uint8Array<ArrayBuffer>, expected = REFUSED): void =>
    list.add(title, post(CHAT_PATH, key, body), expected)
  const change = (name: string, value: string): string =>
    objectText(withMember(members, name, value))

  for (let length = 0; length < whole.length; length++) {
    send(`cut off after ${length} bytes`, whole.slice(0, length), refusedAt(null))
  }
  for (const body of ['null', '1', '"x"', '[]', '[{}]', 'true', ' ', '\n', '\0', 'undefined']) {
    send(`is ${JSON.stringify(body)}`, body)
  }
  for (const body of [
    ...[`${whole}x`, `${whole}${whole}`, `${whole}\0`, `${whole.slice(0, -1)},}`, `/* */${whole}`],
    ...[whole.replaceAll('"', "'"), whole.replace('"model"', 'model'), `${whole}]`, `(${whole})`],
    ...[`data: ${whole}`, `)]}'\n${whole}`, whole.replace(':', '='), whole.replace(',', ';')],
  ]) {
    send(`not quite JSON: ${body.slice(0, 12)}…${body.slice(-6)}`, body, refusedAt(null))
  }
  for (const number of [
    'NaN',
    'Infinity',
    '-Infinity',
    '0x10',
    '1.',
    '.5',
    '+1',
    '01',
    '1e',
    '--1',
  ]) {
    send(`max_tokens ${number}`, change('max_tokens', number), refusedAt(null))
  }
  send('max_tokens 1e999', change('max_tokens', '1e999'), refusedAt('max_tokens'))
  send('temperature 1e999', change('temperature', '1e999'), refusedAt('temperature'))

  for (const depth of DEPTHS) {
    for (const field of DEEP_FIELDS) {
      for (const name of [null, 'a']) {
        const body = (): string => change(field, nested(depth, name))
        const title = `${field} nested ${depth} deep in ${name === null ? 'lists' : 'objects'}`
        // Three and a half megabytes are the most that is read at all.
        list.add(title, post(CHAT_PATH, key, body), depth > 500_000 ? CLOSED : refusedAt(null))
      }
    }
  }
  send('a deep value that means nothing', change('metadata', nested(250)), LEGAL)
  send('brackets within text', change('user', JSON.stringify('['.repeat(100_000))), LEGAL)

  for (const bytes of [3.5 * MIB + 1, 4 * MIB, 50 * MIB]) {
    const pad = (): string => whole + ' '.repeat(bytes - whole.length)
    list.add(`${bytes} bytes, most of them blanks`, post(CHAT_PATH, key, pad), CLOSED)
  }
  for (const name of POLLUTING) {
    const value = '{"isOperator":true}'
    send(`member ${name}`, change(name, value), refusedAt(name))
    const message = `{"role":"user","content":"hi","${name}":${value}}`
    send(
      `message with ${name}`,
      change('messages', `[${message}]`),
      refusedAt(`messages.0.${name}`),
    )
    const part = `[{"role":"user","content":[{"type":"text","text":"hi","${name}":${value}}]}]`
    send(`part with ${name}`, change('messages', part), refusedAt(`messages.0.content.0.${name}`))
    const format = `{"type":"json_object","${name}":${value}}`
    send(
      `format with ${name}`,
      change('response_format', format),
      refusedAt(`response_format.${name}`),
    )
    send(`bias of ${name}`, change('logit_bias', `{"${name}":1}`), refusedAt(/^logit_bias/))
    const inside = name === '__proto__' ? refusedAt('metadata.__proto__') : LEGAL
    send(`metadata with ${name}`, change('metadata', `{"${name}":${value}}`), inside)
    send(`model ${name}`, change('model', `"${name}"`), refusedAt('model'))
  }
  for (const [name, value] of members) {
    send(`${name} twice, the last one sound`, objectText([[name, '-1'], ...members]), LEGAL)
    send(`${name} twice, the last one not`, objectText([...members, [name, '-1']]), refusedAt(name))
    send(
      `${name} a thousand times`,
      objectText([...Array(1000).fill([name, value]), ...members]),
      LEGAL,
    )
  }

  for (const written of [
    '\\ud800',
    '\\udc00',
    '\\ud800\\ud800',
    '\\udfff\\ud800',
    '\\u0000',
    '\\uffff',
  ]) {
    const message = `[{"role":"user","content":"${CANARY}${written}"}]`
    send(`content with ${written}`, change('messages', message), EITHER)
    send(`model with ${written}`, change('model', `"m${written}"`), refusedAt('model'))
    send(`stop with ${written}`, change('stop', `"${written}"`), EITHER)
    send(`user with ${written}`, change('user', `"${written}"`), EITHER)
    send(`grammar with ${written}`, change('grammar', `"root ::= \\"${written}\\""`), EITHER)
  }
  for (const [what, raw] of Object.entries({
    'a byte 0xff': [0xff],
    'an overlong zero': [0xc0, 0x80],
    'half of a surrogate pair': [0xed, 0xa0, 0x80],
    'a character cut off': [0xf0, 0x9f, 0x98],
    'a character beyond Unicode': [0xf4, 0x90, 0x80, 0x80],
    'a lone continuation': [0x80],
  })) {
    const [head = '', tail = ''] = whole.split(CANARY)
    const body = Buffer.concat([Buffer.from(head), Buffer.from(raw), Buffer.from(tail)])
    send(`not UTF-8: ${what}`, Uint8Array.from(body), refusedAt(null))
  }
  send('a byte order mark', `\ufeff${whole}`, LEGAL)
  send('two byte order marks', `\ufeff\ufeff${whole}`, refusedAt(null))
  send('UTF-16', Uint8Array.from(Buffer.from(whole, 'utf16le')), refusedAt(null))
  send('gzip', Uint8Array.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0, 0]), refusedAt(null))

  addWrongKinds(list, world)
  for (const type of [
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data',
    '',
  ]) {
    const { headers, ...input } = post(CHAT_PATH, key, whole)
    list.add(
      `called ${type || 'nothing'}`,
      { ...input, headers: { ...headers, 'content-type': type } },
      LEGAL,
    )
  }
  for (const coding of ['gzip', 'br', 'identity', 'x'.repeat(200)]) {
    const { headers, ...input } = post(CHAT_PATH, key, whole)
    list.add(
      `coded ${coding}`,
      { ...input, headers: { ...headers, 'content-encoding': coding } },
      EITHER,
    )
  }
  return list.cases
}

/** Each field with values of every kind but its own. */
const KINDS: Readonly<Record<string, string>> = {
  text: '"x"',
  number: '3.5',
  flag: 'true',
  list: '[7.5]',
  object: '{"b":{}}',
}
const CHAT_KINDS: Readonly<Record<string, string>> = {
  model: 'text',
  messages: 'none',
  stream: 'flag',
  stream_options: 'none',
  max_completion_tokens: 'none',
  stop: 'text',
  grammar: 'none',
  response_format: 'none',
  ignore_eos: 'flag',
  logprobs: 'flag',
  store: 'none',
  service_tier: 'none',
  tools: 'none',
  logit_bias: 'none',
}

function addWrongKinds(list: CaseList, world: World): void {
  const members = chatMembers(world)
  for (const [field, own] of Object.entries(CHAT_KINDS)) {
    for (const [kind, value] of Object.entries(KINDS)) {
      if (kind === own) continue
      const body = objectText(withMember(members, field, value))
      const expected = refusedAt(new RegExp(`^${field}`))
      list.add(`${field} is ${kind}`, post(CHAT_PATH, world.tenantKey, body), expected)
    }
  }
  const roles = ['""', '"nobody"', '"USER"', '1', 'null', '["user"]', '"user\\u0000"']
  for (const role of roles) {
    const body = objectText(withMember(members, 'messages', `[{"role":${role},"content":"x"}]`))
    list.add(`role ${role}`, post(CHAT_PATH, world.tenantKey, body), refusedAt('messages.0.role'))
  }
  const prompts = ['{}', 'true', '7', '[]', '[[]]', '[1,"a"]', '["a",1]', '[[1],[2]]', '["a","b"]']
  for (const prompt of [
    ...prompts,
    '[-1]',
    '[1.5]',
    '[null]',
    '[99999999]',
    '[2147483648]',
    '[1e15]',
  ]) {
    const body = objectText(withMember(textMembers(world), 'prompt', prompt))
    list.add(`prompt ${prompt}`, post(TEXT_PATH, world.tenantKey, body), refusedAt(/^prompt/))
  }
}
