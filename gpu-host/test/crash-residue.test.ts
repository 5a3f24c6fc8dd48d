/**
 * What a host process leaves behind however it ends: no words of a tenant, neither in its log nor
 * on its disk.
 */
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CURSOR_START, readSettled } from '../journal/settled-reader.ts'
import { HostChildren, sendTo } from './support/host-child.ts'
import { createRequest, readEvents } from './support/test-host.ts'

const CANARY = 'canary5417'

let hosts: HostChildren
beforeEach(() => {
  hosts = new HostChildren()
})
afterEach(() => hosts.stop())

function filesBelow(directory: string): string {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'latin1'))
    .join('\n')
}

describe('a host that ends by', () => {
  it.each(['SIGSEGV', 'SIGUSR2'] as const)(
    '%s leaves nothing of a prompt or an answer, neither in its log nor on its disk',
    async (signal) => {
      const { child, url, log } = await hosts.start({ preload: ['crash-on-signal.ts'] })
      const messages = [{ role: 'user' as const, content: `tell me of ${CANARY}` }]
      const request = createRequest({ input: { kind: 'chat', messages }, max_tokens: 90_000 })
      let answer = ''
      try {
        for await (const event of readEvents(await sendTo(url, request))) {
          if (event.type === 'chunk') answer += event.text
          if (answer.length === 64) child.kill(signal)
        }
      } catch {
        // The end of the process cuts the stream.
      }
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
      expect(answer.length).toBeGreaterThanOrEqual(64)
      const secrets = [CANARY, answer.slice(8, 40)]
      const again = await hosts.start()
      const left = { disk: filesBelow(hosts.directory), log: [...log, ...again.log].join('\n') }
      // It was there, and is known to have been.
      expect(left.disk).toContain(request.request_id)
      const { events } = readSettled(join(hosts.directory, 'host', 'journal'), CURSOR_START, 10)
      expect(events).toMatchObject([{ source: 'recovered' }])
      for (const [place, text] of Object.entries(left)) {
        for (const secret of secrets) expect(text.includes(secret), place).toBe(false)
      }
    },
  )
})
