/**
 * Neither an edge nor a host connects to anybody but those in its configuration, whatever URL a
 * client puts wherever a URL could stand, and wherever a host or its reply points to.
 */
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EDGE_ROUTES } from '#protocol'
import { type EgressRecorder, recordEgress } from './support/egress-recorder.ts'
import { type OtlpReceiver, startOtlpReceiver } from './support/otlp-receiver.ts'
import type { TestTenant } from './support/pool-client.ts'
import { TestPool } from './support/test-pool.ts'

let pool: TestPool
let tenant: TestTenant
let receiver: OtlpReceiver
let egress: EgressRecorder
/** Where nobody may go; what goes there all the same is counted. */
let trap: Server
let trapPort = 0
let trapped = 0
/** Answers everything with a redirect to the trap. */
let redirector: Server
/** Routes of hosts that the redirector answers in their place. */
let redirected: readonly string[] = []

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

beforeAll(async () => {
  trap = createServer((_request, response) => response.end('{}'))
  trap.on('connection', () => {
    trapped += 1
  })
  trapPort = await listen(trap)
  redirector = createServer((request, response) => {
    request.resume()
    response.writeHead(307, { location: `http://127.0.0.1:${trapPort}${request.url}` }).end()
  })
  const redirectorPort = await listen(redirector)
  receiver = await startOtlpReceiver()
  const environment = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url }
  egress = recordEgress()
  pool = await TestPool.start({
    environment,
    fetch: (input, init) => {
      const { pathname } = new URL(String(input))
      if (!redirected.some((route) => pathname.endsWith(route))) return fetch(input, init)
      return fetch(`http://127.0.0.1:${redirectorPort}${pathname}`, init)
    },
  })
  await pool.addHost({ environment })
  tenant = await pool.addTenant()
  await pool.deploy(tenant, 'support', 'weights')
})

afterAll(async () => {
  egress.stop()
  await pool.stop()
  await receiver.close()
  for (const server of [trap, redirector]) {
    server.close()
    server.closeAllConnections()
  }
})

const configured = (): string[] =>
  [pool.url, pool.hosts[0]?.host.url ?? '', receiver.url].map((url) => new URL(url).host)

/** The trap in all the ways to write it down, and what clouds and kernels have at known places. */
const places = (): string[] => [
  ...[`http://127.0.0.1:${trapPort}/a`, `http://localhost:${trapPort}/a`, `//127.1:${trapPort}/a`],
  ...[`http://2130706433:${trapPort}/`, `http://0x7f.1:${trapPort}/`, `http://[::]:${trapPort}/`],
  ...[`http://user:pass@127.0.0.1:${trapPort}#@api.example.com/`, `http://127.0.0.1.nip.test/`],
  ...['http://169.254.169.254/latest/meta-data/', 'http://metadata.test/', 'file:///etc/passwd'],
  ...[`gopher://127.0.0.1:${trapPort}/_a`, `ftp://127.0.0.1:${trapPort}/a`],
]

/** Every field that holds text, with a URL in it; many are refused, and some are served. */
function bodies(url: string): object[] {
  const messages = [{ role: 'user', content: url }]
  const served = { model: 'support', messages, max_tokens: 2 }
  const image = { type: 'image_url', image_url: { url } }
  const file = { type: 'file', file: { file_data: url, file_id: url } }
  const audio = { type: 'input_audio', input_audio: { data: url, format: 'wav' } }
  const tool = { type: 'function', function: { name: 'a', parameters: { $ref: url } } }
  const schemas = [{ $ref: url }, { $schema: url, $id: url, type: 'object', properties: {} }]
  return [
    { ...served, user: url, stop: [url], metadata: { url } },
    { ...served, model: url },
    { ...served, model: `${url}@1` },
    { ...served, prompt_cache_key: url, safety_identifier: url },
    ...[image, file, audio].map((part) => ({
      ...served,
      messages: [{ role: 'user', content: [part] }],
    })),
    { ...served, tools: [tool] },
    { ...served, tools: [{ type: 'mcp', server_url: url, server_label: 'a' }] },
    { ...served, web_search_options: { url }, api_base: url, base_url: url, callback_url: url },
    ...schemas.map((schema) => ({
      ...served,
      response_format: { type: 'json_schema', json_schema: { name: 'a', schema } },
    })),
  ]
}

function headers(url: string): Record<string, string> {
  return {
    authorization: `Bearer ${tenant.key}`,
    'content-type': 'application/json',
    'x-forwarded-host': `127.0.0.1:${trapPort}`,
    'x-forwarded-for': '169.254.169.254',
    forwarded: `host=127.0.0.1:${trapPort}`,
    'x-request-id': url,
    tracestate: `a=${url.replaceAll(/[^!-+\--<>-~]/g, '')}`,
    referer: url,
    origin: url,
    'x-original-url': url,
    'x-rewrite-url': url,
    'x-http-destinationurl': url,
    'x-webhook': url,
  }
}

/** Waits for the reply, whatever it is; never a 5xx. */
async function settle(response: Response): Promise<void> {
  await response.text()
  expect(response.status).toBeLessThan(500)
}

/** What is not as fetch would send it. */
async function sendRaw(head: string, body: string): Promise<string> {
  const { hostname, port } = new URL(pool.url)
  const socket = connect(Number(port), hostname)
  socket.end(
    `${head}\r\nconnection: close\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  )
  return text(socket)
}

describe('nobody is connected to', () => {
  it('for a URL in a body or a header of a request', async () => {
    for (const url of places()) {
      for (const body of bodies(url)) {
        const init = { method: 'POST', headers: headers(url), body: JSON.stringify(body) }
        await settle(await fetch(`${pool.url}/v1/chat/completions`, init))
      }
      const path = `/v1/models/${encodeURIComponent(url)}`
      await settle(await pool.call('GET', path, tenant.key))
    }
    expect([...egress.targets].filter((target) => !configured().includes(target))).toEqual([])
    expect(trapped).toBe(0)
  })

  it('for a request that is addressed to somebody else, as to a proxy', async () => {
    const body = JSON.stringify({ model: 'support', prompt: 'a', max_tokens: 1 })
    const key = `authorization: Bearer ${tenant.key}\r\ncontent-type: application/json`
    const there = `127.0.0.1:${trapPort}`
    const heads = [
      `POST http://${there}/v1/completions HTTP/1.1\r\nhost: ${there}\r\n${key}`,
      `POST /v1/completions HTTP/1.1\r\nhost: ${there}\r\n${key}`,
      `POST //${there}/v1/completions HTTP/1.1\r\nhost: x\r\n${key}`,
      `CONNECT ${there} HTTP/1.1\r\nhost: ${there}\r\n${key}`,
    ]
    for (const head of heads) await sendRaw(head, head.startsWith('CONNECT') ? '' : body)
    expect([...egress.targets].filter((target) => !configured().includes(target))).toEqual([])
    expect(trapped).toBe(0)
  })

  it('for a URL in an adapter, its name, or a tenant of an operator', async () => {
    for (const url of places()) {
      const config = {
        base_model_name_or_path: url,
        auto_mapping: { parent_library: url },
        revision: url,
        peft_type: 'LORA',
      }
      await settle(await pool.upload(tenant, 'remote', `weights from ${url}`, { config }))
      await settle(await pool.upload(tenant, encodeURIComponent(url), 'weights', { config }))
      await settle(await pool.call('POST', '/v1/tenants', pool.operatorKey, { name: url }))
    }
    expect([...egress.targets].filter((target) => !configured().includes(target))).toEqual([])
    expect(trapped).toBe(0)
  })

  it('for a host that nobody signed for', async () => {
    const beat = { host_id: 'hst_trap', url: `http://127.0.0.1:${trapPort}`, epoch: 1 }
    for (const key of [pool.operatorKey, tenant.key, '']) {
      expect((await pool.call('POST', EDGE_ROUTES.heartbeat, key, beat)).status).toBe(401)
    }
    expect(trapped).toBe(0)
  })

  it('for the place that a host’s reply points to', async () => {
    redirected = ['/generate', '/prefetch', '/cancel', '/adapters', '/healthz']
    try {
      const ask = { model: 'support', messages: [{ role: 'user', content: 'a' }], max_tokens: 2 }
      for (const stream of [false, true]) {
        const path = '/v1/chat/completions'
        const reply = await pool.call('POST', path, tenant.key, { ...ask, stream })
        expect(await reply.text()).toContain('"error"')
      }
      expect((await pool.upload(tenant, 'moved', 'other weights')).status).toBeGreaterThanOrEqual(
        500,
      )
    } finally {
      redirected = []
    }
    expect(trapped).toBe(0)
  })

  it('while those of the configuration are, and the recorder would have seen others', async () => {
    for (const known of configured()) expect([...egress.targets]).toContain(known)
    await (await fetch(`http://localhost:${trapPort}/`)).text()
    expect(egress.targets).toContain(`localhost:${trapPort}`)
    expect(trapped).toBe(1)
    await fetch('http://unknown.invalid:8081/').catch(() => null)
    expect(egress.targets).toContain('unknown.invalid:8081')
  })
})
