import { randomUUID } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { type GrantClaims, HOST_ROUTES, hostErrorBody } from '../protocol.ts'
import { expectedTokens } from './support/fake-engine.ts'
import { Gate } from './support/gate.ts'
import type { AdapterScript } from './support/scripted-adapters.ts'
import {
  allEvents,
  claimsOf,
  createRequest,
  readEvents,
  signGrant,
  TestHost,
  type TestHostOptions,
  textOf,
} from './support/test-host.ts'

const hosts: TestHost[] = []

async function start(options: TestHostOptions = {}): Promise<TestHost> {
  const host = await TestHost.start(options)
  hosts.push(host)
  return host
}

afterEach(async () => {
  for (const host of hosts.splice(0)) await host.stop()
})

async function errorOf(response: Response): Promise<{ status: number; code: string }> {
  const { error } = hostErrorBody.parse(await response.json())
  return { status: response.status, code: error.code }
}

function script(digits: string, change: Partial<AdapterScript> = {}): [string, AdapterScript] {
  const payload = new TextEncoder().encode(digits)
  return [
    `sha256:${digits.repeat(64)}`,
    { payload, fetchMs: 0, loadMs: 0, fails: 'never', ...change },
  ]
}

const PROMPT = [...Buffer.from('<user>hello<assistant>')]
const until = <T>(check: () => T): Promise<T> => vi.waitFor(check, { timeout: 10_000, interval: 5 })

describe('generate', () => {
  it('streams what the base model says, and counts it exactly', async () => {
    const test = await start()
    const request = createRequest({ max_tokens: 12 })
    const response = await test.generate(request)
    expect(response.status).toBe(200)
    expect(response.headers.get('x-request-id')).toBe(request.request_id)
    const events = await allEvents(response)
    const expected = expectedTokens(null, PROMPT, { tokensMax: 12 })
    expect(textOf(events)).toBe(String.fromCharCode(...expected))
    expect(events[0]).toMatchObject({ type: 'accepted', prompt_tokens: PROMPT.length })
    expect(events.at(-1)).toMatchObject({
      type: 'end',
      finish_reason: 'length',
      usage: { prompt_tokens: PROMPT.length, cached_prompt_tokens: 0, completion_tokens: 12 },
      adapter_source: 'none',
    })
    await until(() => expect(test.usage).toHaveLength(1))
    expect(test.usage[0]).toMatchObject({
      request_id: request.request_id,
      completion_tokens: 12,
      prompt_tokens: PROMPT.length,
      source: 'engine',
    })
  })

  it('answers concurrent requests with each its own adapter, in shared steps', async () => {
    const scripts = new Map([script('1'), script('2'), script('3')])
    const test = await start({ adapters: scripts })
    const digests = [null, ...scripts.keys(), null, ...scripts.keys()]
    const replies = await Promise.all(
      digests.map(async (adapter_digest) => {
        const request = createRequest({ adapter_digest, max_tokens: 40 })
        return textOf(await allEvents(await test.generate(request)))
      }),
    )
    for (const [i, digest] of digests.entries()) {
      const payload = digest === null ? null : (scripts.get(digest)?.payload ?? null)
      const expected = expectedTokens(payload, PROMPT, { tokensMax: 40 })
      expect(replies[i]).toBe(String.fromCharCode(...expected))
    }
    expect(new Set(replies).size).toBe(4)
    const below3 = await test.metric('nozzle_step_distinct_slots_bucket{le="2"}')
    expect(await test.metric('nozzle_step_distinct_slots_count')).toBeGreaterThan(below3)
  })

  it('shows nothing of a stop string, and still counts its tokens', async () => {
    const test = await start()
    const text = String.fromCharCode(...expectedTokens(null, PROMPT, { tokensMax: 20 }))
    const stop = text.slice(6, 9)
    const events = await allEvents(
      await test.generate(createRequest({ max_tokens: 20, stop: [stop] })),
    )
    const at = text.indexOf(stop)
    expect(textOf(events)).toBe(text.slice(0, at))
    expect(events.at(-1)).toMatchObject({
      finish_reason: 'stop',
      usage: { completion_tokens: at + stop.length },
    })
  })

  it('gives log probabilities for each token when asked', async () => {
    const test = await start()
    const request = createRequest({ max_tokens: 2, logprobs: true, top_logprobs: 2 })
    const chunks = (await allEvents(await test.generate(request))).filter(
      (event) => event.type === 'chunk',
    )
    expect(chunks).toHaveLength(2)
    expect(chunks[0]?.logprobs?.[0]).toMatchObject({ token: chunks[0]?.text, logprob: -0.5 })
    expect(chunks[0]?.logprobs?.[0]?.top).toHaveLength(2)
  })

  it('frees the sequence when the client leaves, and bills what was generated', async () => {
    const gate = new Gate()
    const test = await start({ engine: { delay: gate.pass } })
    const leave = new AbortController()
    const request = createRequest({ max_tokens: 400 })
    const reply = test.generate(request, { signal: leave.signal })
    gate.open(3)
    let chunks = 0
    for await (const event of readEvents(await reply)) {
      if (event.type === 'chunk') chunks += 1
      if (chunks === 3) break
    }
    leave.abort()
    await until(() => {
      gate.open(1)
      expect(test.engine.openSequences.size).toBe(0)
    })
    await until(() => expect(test.usage).toHaveLength(1))
    const [event] = test.usage
    expect(event).toMatchObject({ finish_reason: 'abort', prompt_tokens: PROMPT.length })
    // Each step made one token; that of the step in which the client left belongs to nobody.
    expect(event?.completion_tokens).toBe(test.engine.steps - 1)
    expect(test.engine.steps).toBeLessThan(100)
  })

  it('fails one request on non-finite logits and leaves its neighbour alone', async () => {
    const test = await start({
      engine: { isNonFinite: (tokens) => tokens[0] === 7 && tokens.length > 5 },
    })
    const [bad, good] = await Promise.all([
      test.generate(createRequest({ input: { kind: 'tokens', tokens: [7, 7] } })).then(allEvents),
      test.generate(createRequest({ input: { kind: 'tokens', tokens: [8, 8] } })).then(allEvents),
    ])
    expect(bad.at(-1)).toMatchObject({ type: 'error', code: 'engine_failed' })
    expect(good.at(-1)).toMatchObject({ type: 'end', finish_reason: 'length' })
    await until(() => expect(test.usage).toHaveLength(2))
    const failed = test.usage.find((event) => event.finish_reason === 'error')
    expect(failed).toMatchObject({ completion_tokens: 4, prompt_tokens: 2 })
  })

  it('survives a step that the engine rejects', async () => {
    let failures = 1
    const test = await start({
      engine: {
        onStep: () => {
          if (failures-- > 0) throw new Error('the device fell over')
        },
      },
    })
    const refused = await test.generate(createRequest())
    expect(await errorOf(refused)).toEqual({ status: 500, code: 'engine_failed' })
    expect((await allEvents(await test.generate(createRequest()))).at(-1)?.type).toBe('end')
    await until(() => expect(test.usage).toHaveLength(1))
  })
})

describe('refusals before the stream', () => {
  it('refuses a prompt that does not fit, with the numbers', async () => {
    const test = await start()
    const tokens = Array.from({ length: 512 }, () => 1)
    const response = await test.generate(createRequest({ input: { kind: 'tokens', tokens } }))
    const { error } = hostErrorBody.parse(await response.json())
    expect(response.status).toBe(400)
    expect(error.code).toBe('context_length_exceeded')
    expect(error.message).toMatch(/512 tokens.*512 tokens/)
  })

  it('ends at the context when no limit is asked', async () => {
    const test = await start({ engine: { limits: { contextLength: 64 } } })
    const events = await allEvents(await test.generate(createRequest({ max_tokens: null })))
    expect(events.at(-1)).toMatchObject({
      finish_reason: 'length',
      usage: { completion_tokens: 64 - PROMPT.length },
    })
  })

  it('answers 404 for an adapter that does not exist, and leaves no usage event', async () => {
    const test = await start()
    const request = createRequest({ adapter_digest: `sha256:${'9'.repeat(64)}` })
    expect(await errorOf(await test.generate(request))).toEqual({
      status: 404,
      code: 'adapter_not_found',
    })
    await allEvents(await test.generate(createRequest()))
    await until(() => expect(test.usage).toHaveLength(1))
    expect(test.usage[0]?.request_id).not.toBe(request.request_id)
  })

  it('refuses early, with a retry hint, when the queue is full', async () => {
    const gate = new Gate()
    const test = await start({
      engine: { delay: gate.pass, limits: { sequenceCount: 1 } },
      settings: {
        scheduler: {
          queueDepthMax: 1,
          queueDepthTenantMax: 1,
          ...{ queueWaitMaxMs: 60_000, waitTargetMs: null },
          slotWaitMaxMs: 100,
          consumerStallMaxMs: 60_000,
          ...{ eventsBufferedMax: 64, eventBytesBufferedMax: 131_072 },
          prefillRowsMin: 8,
          prefillRowsMax: 64,
          stepTargetUs: 1e6,
        },
      },
    })
    const first = test.generate(createRequest())
    await until(() => expect(test.host.scheduler.load().sequencesRunning).toBe(1))
    const second = test.generate(createRequest())
    await until(() => expect(test.host.scheduler.load().queueDepth).toBe(1))
    const third = await test.generate(createRequest())
    expect(Number(third.headers.get('retry-after'))).toBeGreaterThan(0)
    expect(await errorOf(third)).toEqual({ status: 503, code: 'queue_full' })
    gate.open()
    await Promise.all([first.then(allEvents), second.then(allEvents)])
  })

  it('answers an unusable grammar as the fault of the request', async () => {
    const test = await start()
    const { sampling } = createRequest()
    const request = createRequest({ sampling: { ...sampling, grammar: 'invalid' } })
    expect(await errorOf(await test.generate(request))).toMatchObject({ code: 'invalid_request' })
  })
})

describe('grants', () => {
  const send = async (
    test: TestHost,
    authorization: string | null,
    body = JSON.stringify(createRequest()),
  ): Promise<{ status: number; code: string }> =>
    errorOf(
      await fetch(test.host.url + HOST_ROUTES.generate, {
        method: 'POST',
        body,
        headers: authorization === null ? {} : { authorization },
      }),
    )

  it.each(
    Object.values(HOST_ROUTES).filter(
      (route) => route !== HOST_ROUTES.health && route !== HOST_ROUTES.metrics,
    ),
  )('refuses %s without a grant', async (route) => {
    const test = await start()
    const response = await fetch(test.host.url + route, { method: 'POST', body: '{}' })
    expect(await errorOf(response)).toEqual({ status: 401, code: 'grant_invalid' })
  })

  it('refuses another secret, another algorithm and another audience', async () => {
    const test = await start()
    const forged = await signGrant({}, 'some other secret that is long enough')
    expect(await send(test, `Grant ${forged}`)).toEqual({ status: 401, code: 'grant_invalid' })
    const none = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${forged.split('.')[1]}.`
    expect(await send(test, `Grant ${none}`)).toEqual({ status: 401, code: 'grant_invalid' })
    const edge = await signGrant({ aud: 'edge' })
    expect(await send(test, `Grant ${edge}`)).toEqual({ status: 401, code: 'grant_invalid' })
  })

  it('refuses an expired grant, and one that would live too long', async () => {
    const test = await start()
    const now = Math.floor(Date.now() / 1000)
    const expired = await signGrant({ iat: now - 60, exp: now - 30 })
    expect(await send(test, `Grant ${expired}`)).toEqual({ status: 401, code: 'grant_expired' })
    const long = await signGrant({ iat: now, exp: now + 3600 })
    expect(await send(test, `Grant ${long}`)).toEqual({ status: 401, code: 'grant_invalid' })
  })

  it('refuses a grant that was used before', async () => {
    const test = await start()
    const request = createRequest()
    const nonce = randomUUID()
    const body = JSON.stringify(request)
    const claims = { ...claimsOf(request), nonce }
    expect((await test.post(HOST_ROUTES.generate, body, claims)).status).toBe(200)
    const again = await test.post(HOST_ROUTES.generate, body, claims)
    expect(await errorOf(again)).toEqual({ status: 401, code: 'grant_replayed' })
  })

  it('refuses a grant of another route, another body, another tenant or another adapter', async () => {
    const test = await start()
    const request = createRequest()
    const body = JSON.stringify(request)
    const good = claimsOf(request)
    const wrong: Partial<GrantClaims>[] = [
      { ...good, route: HOST_ROUTES.drain },
      { ...good, body_sha256: 'a'.repeat(64) },
      { ...good, body_sha256: null },
      { ...good, tenant_id: 'ten_b' },
      { ...good, key_id: 'key_b' },
      { ...good, request_id: 'req_other' },
      { ...good, adapter_digest: `sha256:${'1'.repeat(64)}` },
    ]
    for (const claims of wrong) {
      const response = await test.post(HOST_ROUTES.generate, body, claims)
      expect(await errorOf(response)).toEqual({ status: 403, code: 'grant_mismatch' })
    }
  })

  it("never generates more than the grant's token limit", async () => {
    const test = await start()
    const request = createRequest({ max_tokens: 50 })
    const claims = { ...claimsOf(request), max_tokens: 3 }
    const response = await test.post(HOST_ROUTES.generate, JSON.stringify(request), claims)
    expect((await allEvents(response)).at(-1)).toMatchObject({ usage: { completion_tokens: 3 } })
  })
})

describe('uploads', () => {
  const form = (parts: Record<string, string | Uint8Array<ArrayBuffer>>): FormData => {
    const data = new FormData()
    for (const [name, bytes] of Object.entries(parts)) data.append(name, new Blob([bytes]), name)
    return data
  }
  const staged = (test: TestHost): string[] => {
    try {
      return readdirSync(join(test.directory, 'host', 'staging'))
    } catch {
      return []
    }
  }

  it('hands both files to the intake and leaves nothing in staging', async () => {
    const { readFile } = await import('node:fs/promises')
    const seen: string[] = []
    const receipt = {
      digest: `sha256:${'5'.repeat(64)}`,
      base_model: 'fake-base',
      base_digest: `sha256:${'0'.repeat(64)}`,
      rank: 8,
      alpha: 16,
      use_rslora: false,
      target_modules: ['attn_q'],
      tensors: 4,
      pack_bytes: 100,
      existed: false,
    }
    const test = await start({
      intake: {
        async install({ configPath, weightsPath }) {
          seen.push(await readFile(configPath, 'utf8'), await readFile(weightsPath, 'utf8'))
          return receipt
        },
      },
    })
    const body = form({ config: '{"r":8}', weights: 'weights' })
    const response = await test.post(HOST_ROUTES.adapters, body)
    expect(await response.json()).toEqual(receipt)
    expect(seen).toEqual(['{"r":8}', 'weights'])
    expect(staged(test)).toEqual([])
  })

  it.each([
    ['a missing file', { config: '{}' }, 'invalid_request', 400],
    ['an unknown file', { config: '{}', weights: 'w', '../evil': 'x' }, 'invalid_request', 400],
    [
      'a config over its cap',
      { config: 'x'.repeat(70_000), weights: 'w' },
      'payload_too_large',
      413,
    ],
  ])('refuses %s and removes what it staged', async (_, parts, code, status) => {
    const test = await start()
    const response = await test.post(HOST_ROUTES.adapters, form(parts))
    expect(await errorOf(response)).toEqual({ status, code })
    expect(staged(test)).toEqual([])
    expect((await allEvents(await test.generate(createRequest()))).at(-1)?.type).toBe('end')
  })

  it('refuses weights over their cap while they still arrive', async () => {
    const base = await start()
    await base.stop()
    const { readConfig } = await import('../config.ts')
    const { server } = readConfig({
      NOZZLE_POOL_SECRET: 'x'.repeat(32),
      NOZZLE_BASE_MODEL_PATH: 'none',
      NOZZLE_BASE_MODEL_NAME: 'fake-base',
    })
    const test = await start({ settings: { server: { ...server, adapterWeightsBytesMax: 1000 } } })
    const weights = new Uint8Array(3_000_000)
    const response = await test.post(HOST_ROUTES.adapters, form({ config: '{}', weights }))
    expect(await errorOf(response)).toEqual({ status: 413, code: 'payload_too_large' })
    expect(staged(test)).toEqual([])
  })

  it('refuses a body that is cut off or is not multipart', async () => {
    const test = await start()
    expect(await errorOf(await test.post(HOST_ROUTES.adapters, 'text'))).toMatchObject({
      code: 'invalid_request',
    })
    const grant = await signGrant({ route: HOST_ROUTES.adapters })
    const cut = await fetch(test.host.url + HOST_ROUTES.adapters, {
      method: 'POST',
      headers: {
        authorization: `Grant ${grant}`,
        'content-type': 'multipart/form-data; boundary=xyz',
      },
      body: '--xyz\r\ncontent-disposition: form-data; name="config"; filename="c"\r\n\r\n{"r":',
    })
    expect(await errorOf(cut)).toEqual({ status: 400, code: 'invalid_request' })
    expect(staged(test)).toEqual([])
  })
})

describe('host life', () => {
  it('finishes running streams on drain and refuses new requests', async () => {
    const gate = new Gate()
    const test = await start({ engine: { delay: gate.pass } })
    const running = test.generate(createRequest({ max_tokens: 5 }))
    await until(() => expect(test.host.scheduler.load().sequencesRunning).toBe(1))
    const drained = await test.post(HOST_ROUTES.drain, '')
    expect(await drained.json()).toMatchObject({ status: 'draining' })
    expect(await errorOf(await test.generate(createRequest()))).toEqual({
      status: 503,
      code: 'host_draining',
    })
    expect((await fetch(test.host.url + HOST_ROUTES.health)).status).toBe(503)
    const stopped = test.host.stop()
    gate.open()
    expect((await allEvents(await running)).at(-1)).toMatchObject({
      type: 'end',
      usage: { completion_tokens: 5 },
    })
    await stopped
    expect(test.usage).toHaveLength(1)
    expect(test.engine.isClosed).toBe(true)
  })

  it('ends what outlives the grace, and bills it', async () => {
    const gate = new Gate()
    const test = await start({ engine: { delay: gate.pass }, settings: { drainGraceMs: 0 } })
    const events = test.generate(createRequest({ max_tokens: 400 })).then(allEvents)
    gate.open(4)
    await until(() => expect(test.engine.steps).toBe(4))
    const stopped = test.host.stop()
    await until(() => {
      gate.open(1)
      expect(test.engine.isClosed).toBe(true)
    })
    await stopped
    const seen = await events
    const chunks = seen.filter((event) => event.type === 'chunk')
    expect(chunks.length).toBeLessThan(100)
    expect(seen.at(-1)).toMatchObject({
      type: 'error',
      code: 'host_draining',
      usage: { completion_tokens: chunks.length },
    })
    expect(test.usage).toMatchObject([{ finish_reason: 'error', completion_tokens: chunks.length }])
  })

  it('reports load and residency with each heartbeat', async () => {
    const [digest, adapter] = script('4')
    const test = await start({ adapters: new Map([[digest, adapter]]) })
    await allEvents(await test.generate(createRequest({ adapter_digest: digest })))
    const response = await test.post(HOST_ROUTES.residency, '')
    expect(await response.json()).toMatchObject({
      host_id: 'hst_test',
      epoch: test.host.journal.epoch,
      adapters: [{ digest, tier: 'slot' }],
    })
    await until(() => expect(test.heartbeats.length).toBeGreaterThan(0))
  })

  it('ships usage again after the edge was away and the host was restarted', async () => {
    let isAway = true
    const first = await TestHost.start({ isEdgeAway: () => isAway })
    const request = createRequest()
    await allEvents(await first.generate(request))
    await first.host.stop()
    expect(first.usage).toHaveLength(0)
    isAway = false
    const second = await start({ directory: first.directory })
    await until(() => expect(second.usage).toHaveLength(1))
    expect(second.usage[0]).toMatchObject({
      request_id: request.request_id,
      epoch: first.host.journal.epoch,
    })
    expect(await second.metric('nozzle_usage_unshipped_events')).toBe(0)
  })
})
