/**
 * The scheduler on the real engine and a tiny model: requests of different adapters and every kind
 * of sampling in the same steps, each answering to the last digit as it does alone.
 */
import { randomInt } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { NativeEngine } from '../../native/index.ts'
import { createSyntheticAdapter } from '../../native/test/support/synthetic-adapter.ts'
import { TINY } from '../../native/test/support/synthetic-gguf.ts'
import { openTinyEngine } from '../../native/test/support/tiny-engine.ts'
import { systemClock } from '../clock.ts'
import { Journal } from '../journal/journal.ts'
import { CURSOR_START, readSettled } from '../journal/settled-reader.ts'
import type { GenerateEvent, GenerateRequest } from '../protocol.ts'
import type { AdapterPort, SlotLease } from '../scheduler/adapter-port.ts'
import { Scheduler } from '../scheduler/scheduler.ts'
import { createMetrics, type HostMetrics } from '../telemetry/metrics.ts'
import { createChatTemplate } from '../text/chat-template.ts'
import { journalOptions } from './support/journal-records.ts'
import { RIG_LIMITS } from './support/scheduler-rig.ts'
import { createRequest } from './support/test-host.ts'

const ADAPTERS = 3
const digestOf = (slot: number): string => `sha256:${String(slot).repeat(64)}`
const directory = mkdtempSync(join(tmpdir(), 'nozzle-mixed-'))
let engine: NativeEngine
let metrics: HostMetrics
let journal: Journal
let scheduler: Scheduler

/** Adapters that stay in their slots. */
const toLease = (digest: string): SlotLease => {
  const slot = Number(digest.at(-1))
  const place = { slot, generation: 1, digest, content: digest, isCurrent: () => true }
  return { ...place, source: 'slot', swapUs: 0, packBytes: 1, release: () => {} }
}
const residents: AdapterPort = {
  acquire: async (digest) => toLease(digest),
  acquireResident: toLease,
  prefetch: async () => {},
  hint: async () => {},
  stage: () => {},
  wait: () => () => {},
  locate: () => 'slot',
  unusedSwapUs: 0,
  evictions: 0,
  residency: () => [],
}

beforeAll(async () => {
  const sizes = { sequenceCount: 12, contextLength: 160 }
  engine = await openTinyEngine(directory, sizes)
  for (let slot = 1; slot <= ADAPTERS; slot++) {
    await engine.loadSlot(slot, createSyntheticAdapter(TINY, { seed: slot, rank: 4, alpha: 8 }))
  }
  metrics = createMetrics({ withProcess: false })
  journal = new Journal(journalOptions(join(directory, 'journal')))
  scheduler = new Scheduler({
    engine,
    adapters: residents,
    journal,
    metrics,
    clock: systemClock,
    log: () => {},
    renderChat: createChatTemplate(engine.info.chatTemplate, { bos: '', eos: '' }),
    hostId: 'hst_test',
    randomSeed: () => randomInt(2 ** 32),
    limits: { ...RIG_LIMITS, queueDepthTenantMax: 40, eventsBufferedMax: 1000 },
  })
})
afterAll(async () => {
  await scheduler.close()
  journal.close()
  await engine.close()
  rmSync(directory, { recursive: true })
})

type Wish = Partial<Omit<GenerateRequest, 'sampling'>> & {
  readonly sampling?: Partial<GenerateRequest['sampling']>
}

interface Answer {
  readonly requestId: string
  readonly texts: readonly string[]
  readonly finishes: readonly (string | null)[]
  readonly logprobs: readonly unknown[]
  readonly usage: unknown
}

async function ask(slot: number, wish: Wish): Promise<Answer> {
  const request = createRequest({
    max_tokens: 40,
    adapter_digest: slot === 0 ? null : digestOf(slot),
    base_model: 'tiny',
    ...wish,
    sampling: { ...createRequest().sampling, temperature: 1, ...wish.sampling },
  })
  const generation = scheduler.submit(request)
  const events: GenerateEvent[] = []
  for (let event = await generation.next(); event !== null; event = await generation.next()) {
    events.push(event)
  }
  const chunks = events.filter((event) => event.type === 'chunk')
  const last = events.at(-1)
  if (last?.type !== 'end') throw new Error(JSON.stringify(last))
  const { prompt_tokens, completion_tokens } = last.usage
  const own = Array.from({ length: request.n }, (_, choice) =>
    chunks.filter((chunk) => chunk.choice === choice),
  )
  return {
    requestId: request.request_id,
    texts: own.map((parts) => parts.map(({ text }) => text).join('')),
    finishes: own.map((parts) => parts.at(-1)?.finish_reason ?? null),
    logprobs: own.map((parts) => parts.flatMap((part) => part.logprobs ?? [])),
    usage: { prompt_tokens, completion_tokens },
  }
}

/** What does not name the request. */
const contentOf = ({ requestId: _, ...content }: Answer): Omit<Answer, 'requestId'> => content

const JSON_LIKE = String.raw`root ::= "{\"" [a-z]{1,6} "\":" ( [0-9]{1,4} | "[" [0-9] ("," [0-9]){0,3} "]" ) "}"`

const MIX: readonly (readonly [number, Wish])[] = [
  [1, { sampling: { grammar: JSON_LIKE, seed: 11 } }],
  [1, { n: 2, sampling: { grammar: JSON_LIKE, seed: 12 }, logprobs: true, top_logprobs: 1 }],
  [2, { n: 3, sampling: { seed: 5, top_p: 0.9 }, logprobs: true, top_logprobs: 2 }],
  [3, { sampling: { temperature: 0, frequency_penalty: 1 }, logprobs: true }],
  [0, { sampling: { temperature: 0 }, ignore_eos: true, logprobs: true, top_logprobs: 5 }],
  [2, { sampling: { seed: 9, min_p: 0.02, logit_bias: { 40: -100, 60: 4 } }, ignore_eos: true }],
  [3, { sampling: { seed: 0xffff_ffff, top_k: 30, repetition_penalty: 1.2 } }],
  [0, { stop: ['a', 'e'], sampling: { seed: 21 }, ignore_eos: true, logprobs: true }],
]

const run = (order: readonly number[]): Promise<Answer[]> =>
  Promise.all(
    order.map((index) => {
      const [slot, wish] = MIX[index] ?? expect.fail('no such request')
      return ask(slot, wish)
    }),
  )

describe('a mixed step', () => {
  it('answers every kind of request as it is answered alone, whatever the order', async () => {
    const alone: Answer[] = []
    for (const [slot, wish] of MIX) alone.push(await ask(slot, wish))
    const before = await metrics.stepDistinctSlots.get()
    const forward = MIX.map((_, index) => index)
    for (const order of [forward, [...forward].reverse()]) {
      const together = await run(order)
      for (const [at, index] of order.entries()) {
        const answer = together[at] ?? expect.fail('no answer')
        expect(contentOf(answer), `request ${index}`).toEqual(contentOf(alone[index] as Answer))
      }
    }
    const after = await metrics.stepDistinctSlots.get()
    const mixed = (of: typeof after): number =>
      of.values.reduce((sum, { metricName, labels, value }) => {
        const isCount = metricName?.endsWith('_count') === true
        if (isCount) return sum + value
        return labels.le === 2 ? sum - value : sum
      }, 0)
    // Steps with rows of all three adapters.
    expect(mixed(after)).toBeGreaterThan(mixed(before))
    // And prompts that were not computed again: no digit shows it.
    expect((await metrics.prefixHitTokens.get()).values[0]?.value).toBeGreaterThan(0)
  })

  it('holds each to what it asked for', async () => {
    const [first, second, third, , , biased, , stopped] = await run(MIX.map((_, index) => index))
    for (const answer of [first, second]) {
      for (const [index, text] of (answer?.texts ?? []).entries()) {
        if (answer?.finishes[index] === 'stop') expect(JSON.parse(text)).toBeTypeOf('object')
      }
    }
    expect(second?.texts[0]).not.toBe(second?.texts[1])
    expect(new Set(third?.texts).size).toBe(3)
    const forbidden = Buffer.from(engine.tokenBytes(40)).toString()
    expect(biased?.texts[0]).not.toContain(forbidden)
    expect(stopped?.finishes).toEqual(['stop'])
    expect(stopped?.texts[0]).not.toMatch(/[ae]/)
  })

  it('bills each once, prompt once, and tokens to the last', async () => {
    const answers = await run([2, 1, 3])
    const events = readSettled(join(directory, 'journal'), CURSOR_START, 10_000).events
    for (const { requestId, usage } of answers) {
      const own = events.filter((event) => event.request_id === requestId)
      expect(own).toHaveLength(1)
      expect(own[0]).toMatchObject(usage as object)
    }
  })

  it('gives choice 0 the text of n = 1, and a request without a seed a new one', async () => {
    const [slot, wish] = MIX[2] ?? expect.fail('no such request')
    const [three, one] = await Promise.all([ask(slot, wish), ask(slot, { ...wish, n: 1 })])
    expect(three.texts[0]).toBe(one.texts[0])
    const unseeded: Wish = { n: 4, ignore_eos: true, sampling: { seed: null } }
    const [a, b] = await Promise.all([ask(1, unseeded), ask(1, unseeded)])
    expect(new Set([...a.texts, ...b.texts]).size).toBe(8)
  })

  it('never shows a part of a stop string, wherever tokens and characters are cut', async () => {
    const plain = { ignore_eos: true, logprobs: true, sampling: { seed: 33 } }
    const { texts } = await ask(1, plain)
    const [text = ''] = texts
    for (let begin = 1; begin < Math.min(text.length - 4, 24); begin += 3) {
      for (const length of [1, 2, 4]) {
        const stop = text.slice(begin, begin + length)
        const answer = await ask(1, { ...plain, stop: [stop, 'never so'] })
        expect(answer.texts).toEqual([text.slice(0, text.indexOf(stop))])
        const [told = []] = answer.logprobs as [{ bytes: number[] }[]]
        const bytes = Uint8Array.from(told.flatMap((token) => token.bytes))
        // The tiny model writes bytes that are no UTF-8; decoded, both show the same for them.
        const spelt = new TextDecoder().decode(bytes, { stream: true })
        expect(answer.texts[0]?.startsWith(spelt)).toBe(true)
      }
    }
  })
})
