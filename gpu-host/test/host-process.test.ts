import { once } from 'node:events'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CURSOR_START, readSettled } from '../journal/settled-reader.ts'
import type { UsageEvent } from '../protocol.ts'
import { HostChildren, sendTo } from './support/host-child.ts'
import { createRequest, readEvents } from './support/test-host.ts'

let hosts: HostChildren
beforeEach(() => {
  hosts = new HostChildren()
})
afterEach(() => hosts.stop())

function usage(): readonly UsageEvent[] {
  return readSettled(join(hosts.directory, 'host', 'journal'), CURSOR_START, 1000).events
}

describe('host process', () => {
  it('bills after SIGKILL at least every token that a client saw, and at most one step more', async () => {
    const { child, url } = await hosts.start()
    const requests = [1, 1, 3].map((n) => createRequest({ n, max_tokens: 90_000 }))
    const seen = new Map<string, number>()
    await Promise.all(
      requests.map(async (request) => {
        const response = await sendTo(url, request)
        let tokens = 0
        try {
          for await (const event of readEvents(response)) {
            if (event.type === 'chunk') tokens += event.tokens
            seen.set(request.request_id, tokens)
            if (tokens === 100) child.kill('SIGKILL')
          }
        } catch {
          // The kill cuts the stream.
        }
      }),
    )
    await hosts.start()
    const events = usage()
    expect(events).toHaveLength(3)
    for (const event of events) {
      expect(event.source).toBe('recovered')
      // What lay in sockets when the process died was written, but never seen.
      expect(event.completion_tokens).toBeGreaterThanOrEqual(seen.get(event.request_id) ?? 0)
      expect(event.completion_tokens).toBeLessThan(90_000)
      expect(event.prompt_tokens).toBe('<user>hello<assistant>'.length)
    }
  })

  it.each(['SIGTERM', 'SIGINT'] as const)(
    'finishes its streams on %s, then exits 0',
    async (signal) => {
      const { child, url } = await hosts.start()
      const request = createRequest({ max_tokens: 60 })
      const events = []
      for await (const event of readEvents(await sendTo(url, request))) {
        events.push(event)
        if (events.length === 2) child.kill(signal)
      }
      expect(events.at(-1)).toMatchObject({ type: 'end', usage: { completion_tokens: 60 } })
      if (child.exitCode === null) await once(child, 'exit')
      expect(child.exitCode).toBe(0)
      expect(usage()).toMatchObject([{ completion_tokens: 60, source: 'engine' }])
    },
  )

  it('exits with 3 when an fsync of its journal fails, and its next start bills what was seen', async () => {
    const { child, url } = await hosts.start({ preload: ['failing-fsync.ts'] })
    const request = createRequest({ max_tokens: 90_000 })
    let last: unknown
    let seen = 0
    for await (const event of readEvents(await sendTo(url, request))) {
      if (event.type === 'chunk') seen += event.tokens
      last = event
    }
    expect(last).toMatchObject({ type: 'error', code: 'journal_failed' })
    if (child.exitCode === null) await once(child, 'exit')
    expect(child.exitCode).toBe(3)
    await hosts.start()
    const [event] = usage()
    expect(event?.source).toBe('recovered')
    expect([0, 1]).toContain((event?.completion_tokens ?? 0) - seen)
  })

  it('exits with 4 when the edge knows a newer start of it', async () => {
    const edge = createServer((_, response) => {
      response.writeHead(409, { 'content-type': 'application/json' })
      response.end(JSON.stringify({ error: { code: 'host_epoch_stale' } }))
    }).listen(0, '127.0.0.1')
    await once(edge, 'listening')
    const address = edge.address()
    const port = typeof address === 'object' ? address?.port : 0
    const { child } = await hosts.start({
      env: { NOZZLE_EDGE_URL: `http://127.0.0.1:${port}` },
    })
    if (child.exitCode === null) await once(child, 'exit')
    edge.close()
    expect(child.exitCode).toBe(4)
  })

  it('exits at once on a second signal', async () => {
    const { child, url } = await hosts.start()
    let chunks = 0
    try {
      for await (const _ of readEvents(await sendTo(url, createRequest({ max_tokens: 90_000 })))) {
        chunks += 1
        if (chunks === 2) child.kill('SIGTERM')
        if (chunks === 50) child.kill('SIGTERM')
      }
    } catch {
      // The exit cuts the stream.
    }
    if (child.exitCode === null) await once(child, 'exit')
    expect(child.exitCode).toBe(1)
  })
})
