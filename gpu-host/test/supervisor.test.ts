import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { adapterPaths, vectorDirectory } from '../adapters/test/support/vectors.ts'
import { adapterReceipt, type GenerateEvent, HOST_ROUTES } from '../protocol.ts'
import {
  allEvents,
  claimsOf,
  createRequest,
  POOL_SECRET,
  readEvents,
  signGrant,
} from './support/test-host.ts'

let directory = ''
const children: ChildProcess[] = []
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'nozzle-supervised-'))
})
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  rmSync(directory, { recursive: true, force: true })
})

const HOST = join('test', 'support', 'supervised-host.ts')
const ENTRY = 'index.ts'

function spawnHost(script: string, env: Record<string, string> = {}): ChildProcess {
  const child = spawn(process.execPath, [join(import.meta.dirname, '..', script)], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: {
      NOZZLE_POOL_SECRET: POOL_SECRET,
      NOZZLE_DATA_DIR: directory,
      NOZZLE_BASE_MODEL_PATH: join(directory, 'none.gguf'),
      NOZZLE_BASE_MODEL_NAME: 'tiny',
      ...env,
    },
  })
  children.push(child)
  return child
}

const ready = z.object({ type: z.literal('ready'), url: z.url() })

async function startHost(): Promise<{ child: ChildProcess; url: string }> {
  const child = spawnHost(HOST)
  child.stderr?.resume()
  const [message] = await once(child, 'message')
  return { child, url: ready.parse(message).url }
}

async function exitOf(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null) await once(child, 'exit')
  return child.exitCode
}

async function post(
  url: string,
  route: string,
  body: string | FormData,
  claims: Parameters<typeof signGrant>[0] = {},
): Promise<Response> {
  const body_sha256 =
    typeof body === 'string' ? createHash('sha256').update(body).digest('hex') : null
  const grant = await signGrant({ route, body_sha256, ...claims })
  return fetch(url + route, { method: 'POST', body, headers: { authorization: `Grant ${grant}` } })
}

function generate(url: string, adapter_digest: string | null, max_tokens: number) {
  const request = createRequest({ base_model: 'tiny', adapter_digest, max_tokens })
  return post(url, HOST_ROUTES.generate, JSON.stringify(request), claimsOf(request))
}

/** Reads a stream to its end; `onSecond` runs after its second event. */
async function readStream(response: Response, onSecond: () => void): Promise<GenerateEvent[]> {
  const events: GenerateEvent[] = []
  for await (const event of readEvents(response)) {
    events.push(event)
    if (events.length === 2) onSecond()
  }
  return events
}

describe('a host under a supervisor', () => {
  it('takes an uploaded adapter and generates with it', async () => {
    const { url } = await startHost()
    const { configPath, weightsPath } = adapterPaths(vectorDirectory('plain'))
    const form = new FormData()
    form.append('config', new Blob([readFileSync(configPath)]), 'c')
    form.append('weights', new Blob([readFileSync(weightsPath)]), 'w')
    const response = await post(url, HOST_ROUTES.adapters, form)
    const { digest } = adapterReceipt.parse(await response.json())
    const events = await allEvents(await generate(url, digest, 4))
    expect(events.at(-1)).toMatchObject({
      type: 'end',
      adapter_source: 'disk',
      usage: { completion_tokens: 4 },
    })
    const again = await allEvents(await generate(url, digest, 4))
    expect(again.at(-1)).toMatchObject({ type: 'end', adapter_source: 'slot' })
  })

  it('drains and exits when the supervisor goes away', async () => {
    const { child, url } = await startHost()
    const events = await readStream(await generate(url, null, 60), () => child.disconnect())
    expect(events.at(-1)).toMatchObject({ type: 'end', usage: { completion_tokens: 60 } })
    expect(await exitOf(child)).toBe(0)
  })

  it('finishes the drain that was asked for before the supervisor went away', async () => {
    const { child, url } = await startHost()
    const events = await readStream(await generate(url, null, 60), () => {
      child.kill('SIGTERM')
      child.disconnect()
    })
    expect(events.at(-1)).toMatchObject({ type: 'end', usage: { completion_tokens: 60 } })
    expect(await exitOf(child)).toBe(0)
  })

  it('exits though it was drained by the route before', async () => {
    const { child, url } = await startHost()
    expect((await post(url, HOST_ROUTES.drain, '')).status).toBe(200)
    child.disconnect()
    expect(await exitOf(child)).toBe(0)
  })
})

describe('a start that fails', () => {
  const lineOf = async (child: ChildProcess): Promise<Record<string, unknown>> => {
    if (child.stderr === null) throw new Error('no stderr')
    const [output, code] = await Promise.all([text(child.stderr), exitOf(child)])
    const lines = output.split('\n').filter((line) => line.startsWith('{'))
    expect(lines).toHaveLength(1)
    return { ...z.record(z.string(), z.unknown()).parse(JSON.parse(lines[0] ?? '')), exit: code }
  }

  it('for its configuration names the variable and exits 2, printing no secret', async () => {
    const line = await lineOf(spawnHost(ENTRY, { NOZZLE_POOL_SECRET: 'short', NOZZLE_SLOTS: '0' }))
    expect(line).toMatchObject({ level: 'error', code: 'invalid_request', exit: 2 })
    expect(line.reason).toMatch(/NOZZLE_POOL_SECRET: .*NOZZLE_SLOTS: /)
    expect(JSON.stringify(line)).not.toContain('short')
    expect(line.fix).toMatch(/environment/)
  })

  it('for want of a model says which setting and exits 1', async () => {
    const line = await lineOf(spawnHost(ENTRY))
    expect(line).toMatchObject({ level: 'error', code: 'model_not_found', exit: 1 })
    expect(line.fix).toMatch(/NOZZLE_BASE_MODEL_PATH/)
  })
})
