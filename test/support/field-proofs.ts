/**
 * What each served field of a request does to a real answer. The types hold the tables of
 * `edge/openai/request-fields.ts` against these: a field that is served has a proof here, or does
 * not compile. Fields whose proof is elsewhere name its test.
 */
import { expect } from 'vitest'
import type {
  CHAT_FIELDS,
  COMPLETION_FIELDS,
  CONTENT_PART_FIELDS,
  JSON_SCHEMA_FIELDS,
  MESSAGE_FIELDS,
  RESPONSE_FORMAT_FIELDS,
  STREAM_OPTIONS_FIELDS,
} from '../../edge/openai/request-fields.ts'
import type { Served } from '../../edge/test/support/conformance-tables.ts'
import { type OpenaiCalls, SAYS } from './openai-call.ts'

type Proof = (calls: OpenaiCalls) => Promise<void>
type Proofs<Rules> = Readonly<Record<Served<Rules> & string, Proof>>
type Route = 'chat/completions' | 'completions'

/** `<|im_end|>` of the base model. */
const END_TOKEN = 2
const endAtOnce = { logit_bias: { [END_TOKEN]: 100 }, ignore_eos: false }
const hot = { temperature: 2 }
const long = { max_tokens: 24 }
const onlyX = {
  type: 'object',
  properties: { a: { type: 'string', enum: ['x'] } },
  required: ['a'],
  additionalProperties: false,
}
const schemaFormat = (more: object = {}) => ({
  max_tokens: 40,
  ignore_eos: false,
  response_format: { type: 'json_schema', json_schema: { name: 'x', schema: onlyX, ...more } },
})

function changes(route: Route, one: object, other: object): Proof {
  return async (calls) => {
    const texts = [await calls.text(route, one), await calls.text(route, other)]
    expect(texts[0]).not.toBe(texts[1])
  }
}

/** Where a field leaves the likeliest token alone, heat changes nothing. */
function isGreedy(route: Route, fields: object): Proof {
  return async (calls) =>
    expect(await calls.text(route, { ...hot, ...fields })).toBe(await calls.text(route, {}))
}

const holdsSchema =
  (route: Route, more: object = {}): Proof =>
  async (calls) =>
    expect(JSON.parse(await calls.text(route, schemaFormat(more)))).toEqual({ a: 'x' })

const sharedProofs = (route: Route) => {
  const isChat = route === 'chat/completions'
  const finishOf = async (calls: OpenaiCalls, fields: object) =>
    (isChat ? await calls.chat(fields) : await calls.complete(fields)).choices[0]?.finish_reason
  const chunksOf = (calls: OpenaiCalls, fields: object) =>
    isChat ? calls.chatChunks(fields) : calls.completionChunks(fields)
  return {
    model: changes(route, long, { ...long, model: 'demo/ticket-triage' }),
    frequency_penalty: changes(route, long, { ...long, frequency_penalty: 2 }),
    presence_penalty: changes(route, long, { ...long, presence_penalty: 2 }),
    repetition_penalty: changes(route, long, { ...long, repetition_penalty: 2 }),
    async logit_bias(calls) {
      expect(await calls.text(route, endAtOnce)).toBe('')
      expect(await finishOf(calls, endAtOnce)).toBe('stop')
    },
    async ignore_eos(calls) {
      const ends = { ...endAtOnce, ignore_eos: true }
      expect(await finishOf(calls, ends)).toBe('length')
    },
    async max_tokens(calls) {
      const { usage, choices } = isChat
        ? await calls.chat({ max_tokens: 3 })
        : await calls.complete({ max_tokens: 3 })
      expect(usage.completion_tokens).toBe(3)
      expect(choices[0]?.finish_reason).toBe('length')
    },
    async n(calls) {
      const { choices, usage } = isChat
        ? await calls.chat({ n: 3 })
        : await calls.complete({ n: 3 })
      expect(choices.map(({ index }) => index)).toEqual([0, 1, 2])
      expect(usage.completion_tokens).toBe(18)
    },
    async seed(calls) {
      const drawn = (seed: number) => calls.text(route, { ...hot, seed })
      expect(await drawn(5)).toBe(await drawn(5))
      expect(await drawn(5)).not.toBe(await drawn(6))
    },
    async stop(calls) {
      const whole = await calls.text(route, {})
      const stop = whole.slice(3, 6)
      expect(await calls.text(route, { stop })).toBe(whole.slice(0, whole.indexOf(stop)))
      expect(await finishOf(calls, { stop: [stop] })).toBe('stop')
    },
    async stream(calls) {
      const response = await calls.send(route, { stream: true })
      expect(response.headers.get('content-type')).toContain('text/event-stream')
      expect(await response.text()).toMatch(/^data: \{[\s\S]*\n\ndata: \[DONE\]\n\n$/)
    },
    async stream_options(calls) {
      const chunks = await chunksOf(calls, { stream_options: { include_usage: true } })
      expect(chunks.pop()).toMatchObject({ choices: [], usage: { completion_tokens: 6 } })
      expect(chunks.every(({ usage }) => usage === null)).toBe(true)
      expect(await calls.refusal(route, { stream_options: {} })).toMatchObject({
        status: 400,
        param: 'stream_options',
      })
    },
    temperature: changes(route, { seed: 1 }, { ...hot, seed: 1 }),
    top_p: isGreedy(route, { top_p: 0 }),
    top_k: isGreedy(route, { top_k: 1 }),
    min_p: isGreedy(route, { min_p: 1 }),
    async grammar(calls) {
      const fields = { grammar: 'root ::= "yes"', ignore_eos: false }
      expect(await calls.text(route, fields)).toBe('yes')
    },
    response_format: holdsSchema(route),
  } satisfies Record<string, Proof>
}

/** A deployment with a canary shows these; the title of the test that does. */
const AFFINITY_TEST = {
  file: 'edge/test/versions.test.ts',
  title: 'share the requests, one conversation on one version',
} as const
export const PROVEN_ELSEWHERE = {
  user: AFFINITY_TEST,
  prompt_cache_key: AFFINITY_TEST,
  safety_identifier: AFFINITY_TEST,
  name: { file: 'gpu-host/text/chat-template.test.ts', title: 'gives a name to the template' },
} as const
type Elsewhere = keyof typeof PROVEN_ELSEWHERE

const chat: Omit<Proofs<typeof CHAT_FIELDS>, Elsewhere> = {
  ...sharedProofs('chat/completions'),
  messages: changes('chat/completions', long, {
    ...long,
    messages: [{ role: 'user', content: 'Write the SQL query: count the orders' }],
  }),
  async max_completion_tokens(calls) {
    const { usage } = await calls.chat({ max_completion_tokens: 2, max_tokens: 5 })
    expect(usage.completion_tokens).toBe(2)
  },
  async logprobs(calls) {
    const { choices } = await calls.chat({ logprobs: true })
    const bytes = choices[0]?.logprobs?.content.flatMap((token) => token.bytes) ?? []
    expect(Buffer.from(bytes).toString()).toBe(choices[0]?.message.content)
  },
  async top_logprobs(calls) {
    const { choices } = await calls.chat({ logprobs: true, top_logprobs: 3 })
    const tokens = choices[0]?.logprobs?.content ?? []
    expect(tokens).toHaveLength(6)
    // Greedy: the likeliest is the one that was drawn.
    for (const { token, top_logprobs } of tokens) {
      expect(top_logprobs).toHaveLength(3)
      expect(top_logprobs[0]?.token).toBe(token)
    }
  },
  async service_tier(calls) {
    expect((await calls.chat({ service_tier: 'auto' })).service_tier).toBe('default')
    expect((await calls.chat({})).service_tier).toBeUndefined()
    const [first] = await calls.chatChunks({ service_tier: 'default' })
    expect(first?.service_tier).toBe('default')
    expect(await calls.refusal('chat/completions', { service_tier: 'flex' })).toMatchObject({
      status: 400,
      param: 'service_tier',
    })
  },
}

const completion: Omit<Proofs<typeof COMPLETION_FIELDS>, Elsewhere> = {
  ...sharedProofs('completions'),
  async prompt(calls) {
    expect((await calls.complete({ prompt: [100, 200, 300] })).usage.prompt_tokens).toBe(3)
    const texts = ['Once upon a time', ['Once upon a time']]
    const [one, two] = await Promise.all(
      texts.map((prompt) => calls.text('completions', { prompt })),
    )
    expect(one).toBe(two)
    expect(one).not.toBe(await calls.text('completions', {}))
  },
  async logprobs(calls) {
    const { choices } = await calls.complete({ logprobs: 2 })
    const { tokens = [], top_logprobs = [], text_offset } = choices[0]?.logprobs ?? {}
    expect(tokens.join('')).toBe(choices[0]?.text)
    expect(top_logprobs.map((top) => Object.keys(top).length)).toEqual(Array(6).fill(2))
    expect(text_offset?.[1]).toBe(tokens[0]?.length)
  },
  async best_of(calls) {
    expect((await calls.complete({ n: 2, best_of: 2 })).choices).toHaveLength(2)
    expect(await calls.refusal('completions', { best_of: 2 })).toMatchObject({ param: 'best_of' })
  },
}

const promptTokens = async (calls: OpenaiCalls, messages: readonly object[]) =>
  (await calls.chat({ messages, max_tokens: 1 })).usage.prompt_tokens

const message: Omit<Proofs<typeof MESSAGE_FIELDS>, Elsewhere> = {
  async role(calls) {
    const prompts = ['system', 'developer', 'user', 'assistant', 'tool'].map((role) =>
      promptTokens(calls, [{ role, content: 'Be brief.' }, ...SAYS]),
    )
    const [system, developer, user, ...others] = await Promise.all(prompts)
    expect(developer).toBe(system)
    // The template begins with a system message of its own where there is none.
    for (const each of [user, ...others]) expect(each).toBeGreaterThan(system ?? 0)
    expect(
      await calls.refusal('chat/completions', { messages: [{ role: 'x', content: '' }] }),
    ).toMatchObject({ status: 400, param: 'messages.0.role' })
  },
  content: joinsParts,
}

async function joinsParts(calls: OpenaiCalls): Promise<void> {
  const parts = ['Say', 'hello'].map((text) => ({ type: 'text', text }))
  const ask = (content: unknown) =>
    calls.text('chat/completions', { messages: [{ role: 'user', content }] })
  expect(await ask(parts)).toBe(await ask('Say\nhello'))
}

const part: Proofs<typeof CONTENT_PART_FIELDS> = {
  text: joinsParts,
  async type(calls) {
    const messages = [{ role: 'user', content: [{ type: 'image_url' }] }]
    expect(await calls.refusal('chat/completions', { messages })).toMatchObject({
      status: 400,
      param: 'messages.0.content.0.type',
    })
  },
}

const streamOptions: Proofs<typeof STREAM_OPTIONS_FIELDS> = {
  async include_usage(calls) {
    const chunks = await calls.chatChunks({ stream_options: { include_usage: false } })
    expect(chunks.some((chunk) => 'usage' in chunk)).toBe(false)
    const counted = await calls.chatChunks({ stream_options: { include_usage: true } })
    expect(counted.at(-1)?.usage?.completion_tokens).toBe(6)
  },
}

const format: Proofs<typeof RESPONSE_FORMAT_FIELDS> = {
  async type(calls) {
    const fields = { response_format: { type: 'json_object' }, ...long, stop: ['}'] }
    expect(await calls.text('chat/completions', fields)).toMatch(/^\s*\{/)
    const text = { response_format: { type: 'text' } }
    expect(await calls.text('chat/completions', text)).toBe(
      await calls.text('chat/completions', {}),
    )
  },
  async json_schema(calls) {
    await holdsSchema('chat/completions')(calls)
    const misplaced = { type: 'json_object', json_schema: { name: 'x', schema: onlyX } }
    expect(await calls.refusal('chat/completions', { response_format: misplaced })).toMatchObject({
      status: 400,
      param: 'response_format.json_schema',
    })
  },
}

const jsonSchema: Proofs<typeof JSON_SCHEMA_FIELDS> = {
  async name(calls) {
    expect(await calls.refusal('chat/completions', schemaFormat({ name: '' }))).toMatchObject({
      status: 400,
      param: 'response_format.json_schema.name',
    })
  },
  schema: holdsSchema('chat/completions'),
  async strict(calls) {
    for (const strict of [true, false]) await holdsSchema('chat/completions', { strict })(calls)
  },
}

/** By scope of `FIELD_SCOPES`. */
export const FIELD_PROOFS: Readonly<Record<string, Readonly<Record<string, Proof>>>> = {
  chat,
  message,
  part,
  streamOptions,
  format,
  jsonSchema,
  completion,
}
