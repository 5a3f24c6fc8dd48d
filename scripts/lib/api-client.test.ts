import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { callEdge, sendToEdge, toPath } from './api-client.ts'

let server: Server
let edgeUrl = ''
let answer: (request: IncomingMessage, response: ServerResponse) => void = () => {}
beforeEach(async () => {
  server = createServer((request, response) => answer(request, response))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  edgeUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterEach(() => {
  server.close()
  server.closeAllConnections()
})

const target = () => ({ edgeUrl, apiKey: 'nz_test' })
const get = () => sendToEdge(target(), { method: 'GET', path: '/v1/tenants' })

describe('sendToEdge', () => {
  it('sends the key, the path and a JSON body', async () => {
    const seen: unknown[] = []
    answer = async (request, response) => {
      const { method, url, headers } = request
      seen.push(method, url, headers.authorization, headers['content-type'], await text(request))
      response.end('{}')
    }
    const path = toPath('v1', 'tenants', 'a/b c')
    await sendToEdge(target(), { method: 'POST', path, json: { name: 'ü' } })
    expect(seen).toEqual([
      'POST',
      '/v1/tenants/a%2Fb%20c',
      'Bearer nz_test',
      'application/json',
      '{"name":"ü"}',
    ])
  })

  it.each([
    [400, 'refused', 4],
    [401, 'unauthorized', 5],
    [403, 'unauthorized', 5],
    [404, 'not_found', 3],
    [409, 'refused', 4],
    [422, 'refused', 4],
    [429, 'unavailable', 6],
    [500, 'unavailable', 6],
    [503, 'unavailable', 6],
  ])('turns %d into %s, exit code %d', async (status, reason, exitCode) => {
    answer = (_, response) => {
      response.writeHead(status, { 'x-request-id': 'req_1' })
      response.end(JSON.stringify({ error: { message: 'no', type: 't', param: null, code: 'c' } }))
    }
    await expect(get()).rejects.toMatchObject({
      reason,
      exitCode,
      message: 'no (request req_1)',
      fix: null,
    })
  })

  it('takes a limit that lasts for a refusal', async () => {
    answer = (_, response) => {
      response.writeHead(429, { 'x-should-retry': 'false' })
      response.end(JSON.stringify({ error: { message: 'spent', code: 'insufficient_quota' } }))
    }
    await expect(get()).rejects.toMatchObject({ reason: 'refused', exitCode: 4 })
  })

  it('says which field is at fault and when to try again', async () => {
    answer = (_, response) => {
      response.writeHead(503, { 'retry-after': '7' })
      response.end(JSON.stringify({ error: { message: 'full', param: 'lora_alpha' } }))
    }
    await expect(get()).rejects.toMatchObject({ fix: 'Correct lora_alpha. Try again in 7 s.' })
  })

  it.each([
    ['<html>Bad gateway</html>', '<html>Bad gateway</html>'],
    ['', 'the edge answered 502'],
    ['null', 'null'],
    ['{"error":"text"}', '{"error":"text"}'],
  ])('shows the reply of something that is no edge: %j', async (body, message) => {
    answer = (_, response) => {
      response.writeHead(502)
      response.end(body)
    }
    await expect(get()).rejects.toMatchObject({ reason: 'unavailable', message })
  })

  it('names the edge that does not answer', async () => {
    server.close()
    await once(server, 'close')
    await expect(get()).rejects.toMatchObject({
      reason: 'unavailable',
      message: `the edge at ${edgeUrl} does not answer (ECONNREFUSED)`,
    })
  })

  it('passes an abort on as it is', async () => {
    answer = () => aborter.abort()
    const aborter = new AbortController()
    const sent = sendToEdge(target(), { method: 'GET', path: '/', signal: aborter.signal })
    await expect(sent).rejects.toMatchObject({ name: 'AbortError' })
  })
})

describe('callEdge', () => {
  it('names the field of a reply that is not as expected', async () => {
    answer = (_, response) => response.end('{"data":[{"name":5}]}')
    const schema = z.object({ data: z.array(z.object({ name: z.string() })) })
    await expect(callEdge(target(), { method: 'GET', path: '/x' }, schema)).rejects.toMatchObject({
      reason: 'unexpected',
      message: 'GET /x: the reply is not as expected at data.0.name',
    })
  })
})
