/** B5: what HTTP parsers disagree on, byte for byte, to the edge and to the host behind it. */
import {
  type BadCase,
  CANARY,
  CaseList,
  CHAT_PATH,
  CLOSED,
  chatMembers,
  EITHER,
  LEGAL,
  objectText,
  REFUSED,
  type SocketInput,
  type World,
} from './bad-case.ts'

const CRLF = '\r\n'
const SIGNS = ['\0', '\r', '\n', '\t', '\x01', '\x7f', '\x80', '\xff', ' ', '"', '\\', '\u202e']

export function httpFraming(world: World): BadCase[] {
  const list = new CaseList('B5')
  const body = objectText(chatMembers(world))
  const key = `authorization: Bearer ${world.tenantKey}`
  const length = `content-length: ${Buffer.byteLength(body)}`
  const head = (line: string, headers: readonly string[]): string =>
    [line, 'host: pool', 'connection: close', ...headers, '', ''].join(CRLF)
  const raw = (
    title: string,
    writes: SocketInput['writes'],
    expected = CLOSED,
    more: Partial<Pick<SocketInput, 'to' | 'afterwards'>> = {},
  ): void =>
    list.add(title, { kind: 'socket', to: 'edge', afterwards: 'wait', writes, ...more }, expected)
  const chat = (title: string, headers: readonly string[], text = body, expected = CLOSED): void =>
    raw(title, [head(`POST ${CHAT_PATH} HTTP/1.1`, [key, ...headers]) + text], expected)

  chat('a sound request', [length], body, LEGAL)
  for (const to of ['edge', 'host'] as const) {
    for (const line of [
      ...[
        '',
        ' ',
        'GET',
        'GET /x',
        'GET /x HTTP/9.9',
        'GET /x HTTP/1.1 x',
        'get /x HTTP/1.1',
        'G\0T /x HTTP/1.1',
      ],
      ...['GET  /x HTTP/1.1', 'GET http://[::1 HTTP/1.1', 'GET * HTTP/1.1', 'CONNECT a:1 HTTP/1.1'],
      ...[
        'PRI * HTTP/2.0',
        'TRACE / HTTP/1.1',
        `GET /${'a'.repeat(20_000)} HTTP/1.1`,
        'POST /\n HTTP/1.1',
      ],
      ...[
        'GET /../../etc/passwd HTTP/1.1',
        'GET /%00 HTTP/1.1',
        'GET /%2e%2e/%zz HTTP/1.1',
        'GET //x HTTP/1.1',
      ],
    ]) {
      raw(`${to}: line ${JSON.stringify(line.slice(0, 40))}`, [head(line, [])], CLOSED, { to })
    }
    for (const sign of SIGNS) {
      const headers = [`x-any: a${sign}b: c`, `x-request-id: ${sign}`]
      raw(
        `${to}: header with ${JSON.stringify(sign)}`,
        [head('GET /healthz HTTP/1.1', headers)],
        CLOSED,
        { to },
      )
    }
    for (const bytes of [8_000, 15_000, 17_000, 64_000, 1_000_000]) {
      const headers = [`x-long: ${'a'.repeat(bytes)}`]
      raw(`${to}: a header of ${bytes} bytes`, [head('GET /healthz HTTP/1.1', headers)], CLOSED, {
        to,
      })
    }
    const many = Array.from({ length: 5000 }, (_, i) => `x-${i}: 1`)
    raw(`${to}: 5,000 headers`, [head('GET /healthz HTTP/1.1', many)], CLOSED, { to })
    raw(`${to}: no host`, [`GET /healthz HTTP/1.1${CRLF}${CRLF}`], CLOSED, { to })
    raw(`${to}: TLS`, [Uint8Array.from([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3])], CLOSED, { to })
    raw(
      `${to}: bytes of chance`,
      [Uint8Array.from(Buffer.from('\xde\xad\xbe\xef\0\0', 'latin1'))],
      CLOSED,
      { to },
    )
    raw(`${to}: half a line, and gone`, ['GET /heal'], CLOSED, { to, afterwards: 'destroy' })
    raw(`${to}: half a line, and half closed`, ['GET /heal'], CLOSED, { to, afterwards: 'end' })
    raw(
      `${to}: a body announced and never sent`,
      [head('POST /internal/v1/generate HTTP/1.1', ['content-length: 9'])],
      CLOSED,
      { to, afterwards: 'end' },
    )
    for (const route of [
      'generate',
      'cancel',
      'adapters',
      'uploads/plan',
      'prefetch',
      'drain',
      'usage',
      'hosts/heartbeat',
    ]) {
      const grants = [
        '',
        'authorization: Grant ',
        `authorization: Grant ${'a.'.repeat(4000)}`,
        'authorization: Host a.b.c',
      ]
      for (const grant of grants) {
        const headers = [...(grant ? [grant] : []), 'content-length: 2']
        raw(
          `${to}: ${route} with ${grant.slice(0, 25) || 'nothing'}`,
          [`${head(`POST /internal/v1/${route} HTTP/1.1`, headers)}{}`],
          REFUSED,
          { to },
        )
      }
    }
  }
  chat('both lengths', [length, 'transfer-encoding: chunked'], `0${CRLF}${CRLF}`)
  chat('two lengths', [length, `content-length: 5`])
  chat('the same length twice', [length, length])
  for (const wrong of [
    '-1',
    '+5',
    '0x10',
    '1e3',
    '5, 5',
    '99999999999999999999',
    ' ',
    '٣',
    '18446744073709551615',
  ]) {
    chat(`length ${wrong}`, [`content-length: ${wrong}`])
  }
  for (const coding of [
    'chunked, chunked',
    'gzip, chunked',
    'xchunked',
    'chunked ',
    '\tchunked',
    'identity',
    'CHUNKED',
  ]) {
    chat(`coding ${coding}`, [`transfer-encoding: ${coding}`], `0${CRLF}${CRLF}`)
  }
  const chunked = ['transfer-encoding: chunked']
  const size = Buffer.byteLength(body).toString(16)
  chat('one chunk', chunked, `${size}${CRLF}${body}${CRLF}0${CRLF}${CRLF}`, LEGAL)
  for (const wrong of [
    '-1',
    'fffffffffffffffff',
    'x',
    '',
    '0x5',
    '5;'.repeat(20_000),
    ' 5',
    `${size}\n`,
  ]) {
    chat(
      `chunk of size ${wrong.slice(0, 20)}`,
      chunked,
      `${wrong}${CRLF}${body}${CRLF}0${CRLF}${CRLF}`,
    )
  }
  chat('a chunk longer than its size', chunked, `5${CRLF}${body}${CRLF}0${CRLF}${CRLF}`)
  chat(
    'trailers',
    chunked,
    `${size}${CRLF}${body}${CRLF}0${CRLF}${key}${CRLF}x: ${CANARY}${CRLF}${CRLF}`,
    EITHER,
  )
  const request = head(`POST ${CHAT_PATH} HTTP/1.1`, [key, length])
  for (const share of [0, 0.5, 0.99]) {
    const cut = body.slice(0, Math.floor(body.length * share))
    raw(`${share} of the body, and gone`, [request, cut], CLOSED, { afterwards: 'destroy' })
    raw(`${share} of the body, and half closed`, [request, cut], CLOSED, { afterwards: 'end' })
  }
  raw('one byte a write', [...(request + body)].map(String), LEGAL)
  raw(
    'two requests in one write',
    [request.replace('close', 'keep-alive') + body + request + body],
    LEGAL,
  )
  raw(
    'a request within a body',
    [head(`POST ${CHAT_PATH} HTTP/1.1`, [key, 'content-length: 0']) + request + body],
    CLOSED,
  )
  const stream = body.replace('{', '{"stream":true,')
  const asked = head(`POST ${CHAT_PATH} HTTP/1.1`, [
    key,
    `content-length: ${Buffer.byteLength(stream)}`,
  ])
  raw('a stream that nobody reads', [asked + stream], CLOSED, { afterwards: 'destroy' })
  raw('a stream of a client that closed its half', [asked + stream], CLOSED, { afterwards: 'end' })
  for (const value of [
    `Bearer ${world.tenantKey}\0`,
    `Bearer  ${world.tenantKey}`,
    `bearer ${world.tenantKey} x`,
  ]) {
    raw(
      `key ${JSON.stringify(value.slice(-3))}`,
      [head('GET /v1/models HTTP/1.1', [`authorization: ${value}`])],
      CLOSED,
    )
  }
  for (const model of [
    'a\r\nx: y',
    '../../x',
    'a/b/c',
    'a@99999999999',
    '@',
    '/',
    'a@0',
    'a@-1',
    '%00',
    '\u0000',
  ]) {
    const text = body.replace(JSON.stringify(world.model), JSON.stringify(model))
    chat(
      `model ${JSON.stringify(model)}`,
      [`content-length: ${Buffer.byteLength(text)}`],
      text,
      REFUSED,
    )
  }
  return list.cases
}
