/** B9: the control API and the CLI with names, numbers and bodies that no operator means. */
import {
  type BadCase,
  CaseList,
  CHAT_PATH,
  EITHER,
  type Expected,
  type HttpInput,
  LEGAL,
  nested,
  post,
  REFUSED,
  refusedAt,
  type World,
} from './bad-case.ts'

const ZEROS = '0'.repeat(64)
const part = { bytes: 8, sha256: ZEROS, part_sha256: [ZEROS] }

const NAMES: readonly string[] = [
  ...[
    'a',
    '-ab',
    'ab-',
    'AB',
    'a b',
    'a_b',
    'é',
    'x'.repeat(41),
    'x'.repeat(10_000),
    'v1',
    'admin',
    'ui\u0000',
  ],
  ...[
    '../etc',
    'a/b',
    "a'; drop table tenants; --",
    '%00',
    '\u202eabc',
    'аbc',
    'a\nb',
    '{{7*7}}',
    '<b>',
    '$(id)',
  ],
]
const MODEL_NAMES: readonly string[] = [
  ...[
    '.a',
    'a.',
    '-a',
    'a b',
    'a@1',
    'é',
    'x'.repeat(65),
    '%00',
    "a'--",
    'аbc',
    '..',
    '%2e%2e%2fx',
    '%',
    '%ff',
  ],
]

export function controlApi(world: World): BadCase[] {
  const list = new CaseList('B9')
  const { operatorKey: operator, tenantKey, tenant, model } = world
  const home = `/v1/tenants/${tenant}`
  const own = `${home}/models/${model}`
  const send = (
    method: string,
    path: string,
    body: string | null,
    expected: Expected,
    key = operator,
  ): void => {
    const input: HttpInput = {
      ...post(path, key, body ?? ''),
      method,
      body: body === null ? null : () => body,
    }
    list.add(
      `${method} ${path.replace(tenant, '…').slice(0, 70)} ${body?.slice(0, 40) ?? ''}`,
      input,
      expected,
    )
  }
  const json = (
    method: string,
    path: string,
    body: unknown,
    expected: Expected,
    key = operator,
  ): void => send(method, path, JSON.stringify(body), expected, key)

  for (const name of NAMES) json('POST', '/v1/tenants', { name }, refusedAt('name'))
  json('POST', '/v1/tenants', { name: tenant }, refusedAt('name'))
  for (const name of NAMES) send('GET', `/v1/tenants/${encodeURIComponent(name)}`, null, REFUSED)
  for (const name of MODEL_NAMES) {
    send('GET', `${home}/models/${name}`, null, REFUSED)
    send('DELETE', `${home}/models/${name}`, null, REFUSED)
    json(
      'POST',
      `${home}/models/${name}/uploads`,
      { files: { config: part, weights: part } },
      REFUSED,
    )
    json(
      'POST',
      CHAT_PATH,
      { model: name, messages: [{ role: 'user', content: 'x' }] },
      refusedAt('model'),
      tenantKey,
    )
  }
  const bodies = [
    '',
    ' ',
    'x',
    'null',
    '[]',
    '1',
    '"x"',
    '{',
    '{"a":1}',
    nested(10_000),
    nested(10_000, 'a'),
    '{"__proto__":{"a":1}}',
  ]
  const routes: readonly (readonly [method: string, path: string])[] = [
    ['POST', '/v1/tenants'],
    ['PATCH', home],
    ['PATCH', `${home}/limits`],
    ['PATCH', `${own}/deployment`],
    ['POST', `${own}/uploads`],
    ['POST', `${own}/uploads/complete`],
    ['POST', '/v1/prices'],
    ['POST', `${home}/invoices`],
  ]
  for (const [method, path] of routes) {
    for (const body of bodies) send(method, path, body, REFUSED)
    send(method, path, `{"x":"${'y'.repeat(400_000)}"}`, REFUSED)
  }
  for (const weight of [
    '0',
    '-1',
    '1.5',
    '1e999',
    '1001',
    '"1"',
    'null',
    '[]',
    '9007199254740993',
  ]) {
    send('PATCH', home, `{"weight":${weight}}`, refusedAt('weight'))
  }
  for (const field of [
    'requests_per_minute',
    'tokens_per_minute',
    'concurrency',
    'monthly_spend_pusd',
  ]) {
    for (const value of [
      '-1',
      '1.5',
      '1e999',
      '"x"',
      '""',
      '[]',
      '{}',
      'true',
      '9007199254740993',
      '"-1"',
      `"${'9'.repeat(31)}"`,
    ]) {
      send('PATCH', `${home}/limits`, `{"${field}":${value}}`, refusedAt(field))
    }
  }
  for (const version of ['0', '-1', '1.5', '"1"', '99999999999', 'null', '[]']) {
    send(
      'PATCH',
      `${own}/deployment`,
      `{"versions":[{"version":${version},"weight":100}]}`,
      REFUSED,
    )
    if (version !== 'null') send('POST', `${own}/rollback`, `{"to":${version}}`, REFUSED)
  }
  for (const weight of ['-1', '101', '1.5', '"5"', 'null', '1e999']) {
    send('PATCH', `${own}/deployment`, `{"canary_weight":${weight}}`, REFUSED)
  }
  for (const scopes of [
    '[]',
    '["x"]',
    '"generate"',
    '[1]',
    '["generate","generate","deploy"]',
    '{}',
  ]) {
    send('POST', `${home}/keys`, `{"scopes":${scopes}}`, refusedAt(/^scopes/))
  }
  for (const name of ['', 'x'.repeat(101), 1, {}, []])
    json('POST', `${home}/keys`, { name }, refusedAt('name'))
  for (const name of ['\u0000', 'a\u0000b', '\ud800', '\u202e', "'; --", '<script>'])
    json('POST', `${home}/keys`, { name }, EITHER)
  for (const price of ['"-1"', '1', '"1.5"', '"x"', 'null', `"${'9'.repeat(60)}"`]) {
    send(
      'POST',
      '/v1/prices',
      `{"base_model":"x","prompt_pusd":${price},"cached_prompt_pusd":"1","completion_pusd":"1"}`,
      refusedAt('prompt_pusd'),
    )
  }
  json(
    'POST',
    '/v1/prices',
    { base_model: 'a\u0000b', prompt_pusd: '1', cached_prompt_pusd: '1', completion_pusd: '1' },
    EITHER,
  )
  for (const period of [
    '',
    '2026',
    '2026-13',
    '2026-00',
    '9999-12',
    '0000-01',
    '-2026-01',
    '2026-1',
    '2026-01-01',
    202_601,
    null,
  ]) {
    json('POST', `${home}/invoices`, { period }, REFUSED)
  }
  for (const query of [
    ...[
      'limit=0',
      'limit=1001',
      'limit=-1',
      'limit=x',
      'limit=1e9',
      'after=x',
      'after=%00/1',
      'after=/1',
      `after=${'x'.repeat(100)}`,
    ],
    ...['after=%F0%9F%98/1', 'after=a/99999'],
  ]) {
    send('GET', `${home}/usage/events?${query}`, null, query.includes('/') ? EITHER : REFUSED)
  }
  for (const query of [
    'start=x',
    'start=2026-13-01',
    'end=99999-01-01',
    'start=2027-01-01&end=2026-01-01',
    'by=x',
    'model=',
    `model=${'x'.repeat(201)}`,
  ]) {
    send('GET', `${home}/usage?${query}`, null, REFUSED)
  }
  send('GET', `${home}/usage?model=%00`, null, EITHER)
  for (const id of ['x', 'inv_%00', '..', '%2e%2e', `inv_${'x'.repeat(300)}`])
    send('GET', `${home}/invoices/${id}`, null, REFUSED)
  for (const id of ['x', 'hst_%00', '..', `hst_${'x'.repeat(300)}`]) {
    send('GET', `/v1/hosts/${id}`, null, REFUSED)
    send('DELETE', `/v1/hosts/${id}`, null, REFUSED)
  }
  const files = (change: object): object => ({
    files: { config: part, weights: { ...part, ...change } },
  })
  for (const change of [
    ...[
      { bytes: 0 },
      { bytes: -1 },
      { bytes: 1.5 },
      { bytes: 2 ** 53 },
      { bytes: 9e6 },
      { bytes: null },
      { sha256: 'x' },
    ],
    ...[
      { sha256: `${ZEROS.toUpperCase()}A` },
      { sha256: `${ZEROS}\n` },
      { sha256: `${'../'.repeat(21)}0` },
      { part_sha256: [] },
    ],
    ...[
      { part_sha256: [ZEROS, ZEROS] },
      { part_sha256: Array(2049).fill(ZEROS) },
      { part_sha256: ['x'] },
      { part_sha256: null },
    ],
  ]) {
    json('POST', `${own}/uploads`, files(change), refusedAt(/^files/))
  }
  // This pool's store takes nothing directly: what was never sent cannot be completed.
  json('POST', `${own}/uploads/complete`, { ...files({}), digest: `sha256:${ZEROS}` }, REFUSED)
  for (const digest of [
    '',
    'sha256:',
    ZEROS,
    `md5:${ZEROS}`,
    `sha256:${ZEROS.slice(1)}g`,
    `sha256:${ZEROS}\n`,
    null,
    1,
  ]) {
    json('POST', `${own}/uploads/complete`, { ...files({}), digest }, refusedAt('digest'))
  }
  for (const body of [
    '',
    'x',
    '--x--\r\n',
    '--x\r\ncontent-disposition: form-data; name="config"\r\n\r\n{}\r\n',
    '--x\r\n\r\n\r\n--x--',
  ]) {
    for (const type of [
      'multipart/form-data; boundary=x',
      'multipart/form-data',
      'multipart/form-data; boundary=',
      'application/json',
    ]) {
      const input: HttpInput = { ...post(`${home}/models/uploaded/versions`, operator, body) }
      list.add(
        `an upload of ${JSON.stringify(body.slice(0, 20))} as ${type}`,
        { ...input, headers: { ...input.headers, 'content-type': type } },
        REFUSED,
      )
    }
  }
  for (const query of [
    'canary=-1',
    'canary=101',
    'canary=x',
    'canary=1.5',
    'force=maybe',
    'canary=50',
  ]) {
    send('POST', `${home}/models/nobody/versions?${query}`, 'x', REFUSED)
  }

  const cli = (args: readonly string[]): void =>
    list.add(`nozzle ${args.join(' ').slice(0, 60)}`, { kind: 'cli', args }, REFUSED)
  for (const args of [
    ...[
      ['nothing'],
      ['deploy'],
      ['deploy', '/nowhere', '--model', 'x'],
      ['deploy', '/etc', '--model', '../x'],
      ['tenant', 'create', 'A B'],
    ],
    ...[
      ['tenant', 'create', "x'; --"],
      ['tenant', 'show', 'nobody-here'],
      ['key', 'create', '--scope', 'x'],
      ['key', 'revoke', '../x'],
    ],
    ...[
      ['limit', 'set', '--rpm', '-1'],
      ['limit', 'set', '--rpm', '1e9'],
      ['limit', 'set'],
      ['model', 'show', '..'],
      ['model', 'rm', 'x'.repeat(300)],
    ],
    ...[
      ['model', 'rollback', model, '--to', '0'],
      ['model', 'split', model, '--canary', '101'],
      ['price', 'set', 'x', '--prompt', '-1'],
    ],
    ...[
      ['invoice', 'create', '--period', '2026-13'],
      ['usage', '--by', 'x'],
      ['usage', '--start', 'x'],
      ['chat', 'no/such/model', 'x'],
    ],
    ...[
      ['host', 'show', '../../x'],
      ['check', '/nowhere'],
      ['model', 'show', model, '--no-such-flag'],
      ['savings', 'x'],
      ['help', 'nothing'],
    ],
  ]) {
    cli(['--no-input', ...args])
  }
  send('GET', home, null, LEGAL)
  return list.cases
}
