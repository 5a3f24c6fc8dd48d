import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { GenerateEvent, GenerateRequest, UsageEvent } from '../protocol.ts'
import { hostErrorBody, samplingOptions } from '../protocol.ts'
import { kvSalt } from '../scheduler/kv-identity.ts'
import { fakeTokens, renderFake } from '../test/support/fake-vllm.ts'
import { allEvents, createRequest, readEvents, textOf } from '../test/support/test-host.ts'
import { VllmHost, type VllmHostOptions } from '../test/support/vllm-host.ts'
import type { Tool } from '../wire/chat-input.ts'

let hosts: VllmHost[] = []
async function start(options: VllmHostOptions = {}): Promise<VllmHost> {
  const host = await VllmHost.start(options)
  hosts.push(host)
  return host
}
afterEach(async () => {
  for (const host of hosts) await host.stop()
  hosts = []
})

const PROMPT = fakeTokens(renderFake([{ role: 'user', content: 'hello' }]))
/** The last event, which says what is owed. */
type EndOf = Extract<GenerateEvent, { type: 'end' }>

async function run(host: VllmHost, changes: Partial<GenerateRequest> = {}) {
  const request = createRequest(changes)
  const events = await allEvents(await host.test.generate(request))
  return { request, events, text: textOf(events) }
}

function endOf(events: readonly GenerateEvent[]): EndOf {
  const last = events.at(-1)
  if (last?.type !== 'end') throw new Error(`ended with ${JSON.stringify(last)}`)
  return last
}

/** Chunks' own counts: what the edge meters by. */
function countOf(events: readonly GenerateEvent[]): number {
  return events.reduce((sum, event) => sum + (event.type === 'chunk' ? event.tokens : 0), 0)
}

async function usageOf(host: VllmHost, requestId: string): Promise<UsageEvent> {
  return vi.waitFor(
    () => {
      const event = host.test.usage.find(({ request_id }) => request_id === requestId)
      if (event === undefined) throw new Error('no usage event yet')
      return event
    },
    { timeout: 20_000 },
  )
}

function expectedText(host: VllmHost, tokensMax: number, weights: string | null, seed = 1) {
  const steps = host.server.expected({ prompt: PROMPT, seed, max_tokens: tokensMax }, weights)
  return {
    text: steps.map(({ choice }) => choice.text).join(''),
    tokens: steps.length,
  }
}

function weightsOf(host: VllmHost, digest: string): string {
  const name = digest.slice('sha256:'.length)
  const path = join(host.directory, 'host', 'vllm-loras', name, 'adapter_model.safetensors')
  return createHash('sha256').update(readFileSync(path)).digest('hex')
}

describe('a host on a vLLM server', () => {
  it('answers with what the server drew, and bills its counts', async () => {
    const host = await start()
    const { events, text, request } = await run(host, { max_tokens: 20 })
    const expected = expectedText(host, 20, null)
    expect(text).toBe(expected.text)
    expect(countOf(events)).toBe(expected.tokens)
    const usage = {
      prompt_tokens: PROMPT.length,
      cached_prompt_tokens: PROMPT.length - 1,
      completion_tokens: expected.tokens,
    }
    expect(endOf(events)).toMatchObject({ usage, adapter_source: 'none' })
    expect(await usageOf(host, request.request_id)).toMatchObject(usage)
    const baseDigest = host.test.host.status().base_digest
    const salt = kvSalt({ tenantId: 'ten_a', baseDigest, adapter: null })
    expect(host.server.asked[0]).toMatchObject({ prompt: PROMPT, cache_salt: salt })
    expect(host.test.host.status()).toMatchObject({ engine: 'vllm', context_length: 200 })
  })

  it('gives each tenant the answer of its own adapter, under names that are digests', async () => {
    const host = await start()
    const digests = await Promise.all([1, 2].map((seed) => host.deploy(seed)))
    const runs = await Promise.all(
      [null, ...digests].map((digest, index) =>
        run(host, { tenant_id: `ten_${index}`, adapter_digest: digest, max_tokens: 30 }),
      ),
    )
    const texts = runs.map(({ text }) => text)
    const weights = digests.map((digest) => weightsOf(host, digest))
    expect(texts).toEqual([null, ...weights].map((each) => expectedText(host, 30, each).text))
    expect(new Set(texts).size).toBe(3)
    expect(host.server.loras.sort()).toEqual(digests.map((each) => each.slice(7)).sort())
    const [, second] = runs
    const event = await usageOf(host, second?.request.request_id ?? '')
    expect(event.swap_us).toBeGreaterThan(0)
    expect(event.adapter_bytes).toBeGreaterThan(0)
  })

  it('loads an adapter once for all who come at once', async () => {
    const host = await start()
    const digest = await host.deploy(3)
    await Promise.all(Array.from({ length: 30 }, () => run(host, { adapter_digest: digest })))
    expect(host.server.calls.filter((call) => call.startsWith('load'))).toHaveLength(1)
  })

  it('never has more adapters on the server than it may, and removes their folders', async () => {
    const host = await start()
    const digests: string[] = []
    for (const seed of [1, 2, 3, 4]) digests.push(await host.deploy(seed))
    for (const digest of [...digests, ...digests]) {
      const { text } = await run(host, { adapter_digest: digest, max_tokens: 20 })
      expect(text).toBe(expectedText(host, 20, weightsOf(host, digest)).text)
      expect(host.server.loras.length).toBeLessThanOrEqual(2)
    }
    expect(host.folders().sort()).toEqual(host.server.loras.sort())
    const held = host.test.host.status().adapters.filter(({ tier }) => tier === 'slot')
    expect(held.map(({ digest }) => digest.slice(7)).sort()).toEqual(host.server.loras.sort())
  })

  it('closes the stream of a client that leaves, and bills what it got', async () => {
    const host = await start()
    let release = (): void => {}
    host.server.beforeToken = (index) =>
      index < 5 ? undefined : new Promise<void>((resolve) => (release = resolve))
    const request = createRequest({ max_tokens: 40, ignore_eos: true })
    const client = new AbortController()
    const response = await host.test.generate(request, { signal: client.signal })
    let got = 0
    for await (const event of readEvents(response)) {
      if (event.type === 'chunk') got += event.tokens
      if (got === 5) break
    }
    client.abort()
    expect(await usageOf(host, request.request_id)).toMatchObject({
      finish_reason: 'abort',
      prompt_tokens: PROMPT.length,
      completion_tokens: 5,
    })
    await vi.waitFor(() => expect(host.server.aborted).toBe(1), { timeout: 20_000 })
    // That its stream was closed is no failure of the server.
    expect(host.logs.filter((line) => !line.includes('request'))).toEqual([])
    release()
  })

  it('owes text that a stop string holds back with the chunk that shows it', async () => {
    const host = await start()
    const { events, text } = await run(host, { max_tokens: 40, stop: ['de f', 'zzzzzz'] })
    const all = expectedText(host, 40, null)
    expect(text).toBe(all.text.includes('de f') ? all.text.split('de f')[0] : all.text)
    expect(countOf(events)).toBe(endOf(events).usage.completion_tokens)
    let shown = ''
    let owed = 0
    for (const event of events) {
      if (event.type !== 'chunk' || event.finish_reason !== null) continue
      shown += event.text
      owed += event.tokens
      // Words have one to three letters, so what is owed never outruns what was shown.
      const words = owed === 0 ? '' : expectedText(host, owed, null).text
      expect(words.length).toBeLessThanOrEqual(shown.length)
    }
  })

  it('tells log probabilities with their tokens, none of the end token, the likeliest first', async () => {
    const host = await start()
    const { events } = await run(host, { max_tokens: 6, logprobs: true, top_logprobs: 1 })
    const told = events.flatMap((event) => (event.type === 'chunk' ? (event.logprobs ?? []) : []))
    expect(told.map(({ token }) => token).join('')).toBe(textOf(events))
    for (const { token, top } of told) expect(top).toMatchObject([{ token, logprob: -0.5 }])
  })

  it('runs n choices as completions of their own, and bills the prompt once', async () => {
    const host = await start()
    const { events } = await run(host, { n: 3, max_tokens: 12, ignore_eos: true })
    expect(new Set(host.server.asked.map(({ seed }) => seed)).size).toBe(3)
    const { usage } = endOf(events)
    expect(usage).toMatchObject({ prompt_tokens: PROMPT.length, completion_tokens: 36 })
    const firstChoice = events.filter((event) => event.type === 'chunk' && event.choice === 0)
    const alone = await run(host, { n: 1, max_tokens: 12, ignore_eos: true })
    expect(textOf(firstChoice)).toBe(alone.text)
  })

  it('refuses what the server refuses, naming the field', async () => {
    const host = await start()
    const refusalOf = async (changes: Partial<GenerateRequest>) => {
      const response = await host.test.generate(createRequest(changes))
      return { status: response.status, ...hostErrorBody.parse(await response.json()).error }
    }
    const sampling = samplingOptions.parse({ grammar: 'not a grammar' })
    expect(await refusalOf({ sampling })).toMatchObject({
      status: 400,
      code: 'invalid_request',
      param: 'grammar',
    })
    const messages = [{ role: 'assistant' as const, content: 'x' }]
    expect(await refusalOf({ input: { kind: 'chat', messages } })).toMatchObject({
      status: 400,
      param: 'messages',
    })
    const long = { kind: 'text' as const, prompt: 'x'.repeat(200) }
    expect(await refusalOf({ input: long })).toMatchObject({ code: 'context_length_exceeded' })
    const absent = `sha256:${'0'.repeat(64)}`
    expect(await refusalOf({ adapter_digest: absent })).toMatchObject({ code: 'adapter_not_found' })
  })

  const now = { name: 'now' }
  const chatOf = (tools?: Tool[]): GenerateRequest['input'] => ({
    kind: 'chat',
    messages: [{ role: 'user', content: 'hi' }],
    ...(tools && { tools }),
  })

  it("shows tools to its server's template, and sees the marks of calls", async () => {
    const host = await start()
    await run(host, { input: chatOf([now]), max_tokens: 2 })
    await run(host, { input: chatOf(), max_tokens: 2 })
    const [shown, plain] = host.server.asked
    const text = (tokens: readonly number[] = []) =>
      Buffer.from(tokens.map((token) => token - 2)).toString()
    expect(text(shown?.prompt)).toContain('"name":"now"')
    expect(shown?.skip_special_tokens).toBe(false)
    expect(text(plain?.prompt)).toBe(renderFake([{ role: 'user', content: 'hi' }]))
    expect(plain).not.toHaveProperty('skip_special_tokens')
  })

  it('refuses tools that its server leaves out', async () => {
    const host = await start()
    host.server.knowsTools = false
    const response = await host.test.generate(createRequest({ input: chatOf([now]) }))
    expect(response.status).toBe(400)
    expect(hostErrorBody.parse(await response.json()).error.param).toBe('tools')
    expect((await run(host, { input: chatOf(), max_tokens: 2 })).text).not.toBe('')
  })

  it('gives a server that has lost an adapter that adapter again', async () => {
    const host = await start()
    const digest = await host.deploy(9)
    const before = await run(host, { adapter_digest: digest, max_tokens: 20 })
    await host.server.kill()
    await host.server.start()
    const after = await run(host, { adapter_digest: digest, max_tokens: 20 })
    expect(after.text).toBe(before.text)
  })

  it('says that its server is away, ends what ran, and serves again when it is back', async () => {
    const host = await start()
    const digest = await host.deploy(5)
    const running = createRequest({ adapter_digest: digest, max_tokens: 40, ignore_eos: true })
    let reached = (): void => {}
    const third = new Promise<void>((resolve) => (reached = resolve))
    host.server.beforeToken = (index) => {
      if (index === 3) reached()
      return index < 3 ? undefined : new Promise(() => {})
    }
    const streamed = allEvents(await host.test.generate(running))
    await third
    await vi.waitFor(() => expect(host.test.host.scheduler.load().sequencesRunning).toBe(1))
    await host.server.kill()
    const events = await streamed
    expect(events.at(-1)).toMatchObject({ type: 'error', code: 'engine_failed' })
    expect(await usageOf(host, running.request_id)).toMatchObject({
      finish_reason: 'error',
      completion_tokens: countOf(events),
    })
    const refused = await host.test.generate(createRequest())
    expect(refused.status).toBe(500)
    expect(host.test.host.status().status).toBe('draining')
    expect((await fetch(`${host.test.host.url}/healthz`)).status).toBe(503)
    host.server.beforeToken = () => {}
    await host.server.start()
    await vi.waitFor(() => expect(host.test.host.status().status).toBe('ready'), {
      timeout: 20_000,
    })
    await vi.waitFor(() => expect(host.server.loras).toEqual([digest.slice(7)]), {
      timeout: 20_000,
    })
    const { text } = await run(host, { adapter_digest: digest, max_tokens: 20 })
    expect(text).toBe(expectedText(host, 20, weightsOf(host, digest)).text)
  })

  it('shares out all the time during which the server worked, and no more', async () => {
    const host = await start()
    const startedAt = performance.now()
    const runs = await Promise.all(
      Array.from({ length: 6 }, (_, index) => run(host, { max_tokens: 5 + index })),
    )
    const wallUs = (performance.now() - startedAt) * 1000
    const usages = await Promise.all(runs.map(({ request }) => usageOf(host, request.request_id)))
    const gpuUs = usages.reduce((sum, { gpu_us }) => sum + gpu_us, 0)
    expect(gpuUs).toBeGreaterThan(0)
    expect(gpuUs).toBeLessThanOrEqual(wallUs)
  })
})
