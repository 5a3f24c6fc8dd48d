/**
 * What each served field of a request does to a real answer. The types hold the tables of
 * `edge/openai/request-fields.ts` against these: a field that is served has a proof here, or does
 * not compile. Fields whose proof is elsewhere name its test.
 */
import { expect } from 'vitest'
import type {
  CALL_FIELDS,
  CALL_FUNCTION_FIELDS,
  CHAT_FIELDS,
  COMPLETION_FIELDS,
  CONTENT_PART_FIELDS,
  JSON_SCHEMA_FIELDS,
  MESSAGE_FIELDS,
  RESPONSE_FORMAT_FIELDS,
  STREAM_OPTIONS_FIELDS,
  TOOL_CHOICE_FIELDS,
  TOOL_CHOICE_FUNCTION_FIELDS,
  TOOL_FIELDS,
  TOOL_FUNCTION_FIELDS,
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
const AFFINITY_PROOFS = {
  user: AFFINITY_TEST,
  prompt_cache_key: AFFINITY_TEST,
  safety_identifier: AFFINITY_TEST,
} as const
/** By scope, as below. */
export const PROVEN_ELSEWHERE = {
  chat: AFFINITY_PROOFS,
  completion: AFFINITY_PROOFS,
  message: {
    name: { file: 'gpu-host/text/chat-template.test.ts', title: 'gives a name to the template' },
  },
} as const
type Elsewhere<Scope extends keyof typeof PROVEN_ELSEWHERE> = keyof (typeof PROVEN_ELSEWHERE)[Scope]

/** An answer that ends by itself. */
const ending = { max_tokens: 60, ignore_eos: false }
const colours = {
  type: 'object',
  properties: { colour: { enum: ['red'] } },
  required: ['colour'],
  additionalProperties: false,
}
const paint = { name: 'paint', parameters: colours }
const toolOf = (fields: object = {}) => ({ type: 'function', function: { ...paint, ...fields } })
const oneCall = { ...ending, tool_choice: 'required', parallel_tool_calls: false }

/** The calls of an answer that is nothing else. */
async function callsOf(calls: OpenaiCalls, fields: object) {
  const [choice] = (await calls.chat({ ...oneCall, tools: [toolOf()], ...fields })).choices
  expect(choice).toMatchObject({ finish_reason: 'tool_calls', message: { content: null } })
  return choice?.message.tool_calls?.map(({ function: { name, arguments: given } }) => {
    return { name, arguments: JSON.parse(given) as unknown }
  })
}

const chat: Omit<Proofs<typeof CHAT_FIELDS>, Elsewhere<'chat'>> = {
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
  async tools(calls) {
    expect(await callsOf(calls, {})).toEqual([{ name: 'paint', arguments: { colour: 'red' } }])
    const shown = await promptTokens(calls, SAYS, { tools: [toolOf()] })
    expect(shown).toBeGreaterThan(await promptTokens(calls, SAYS))
    const [role, call] = await calls.chatChunks({ ...oneCall, tools: [toolOf()] })
    expect(role?.choices[0]?.delta).toMatchObject({ role: 'assistant', content: '' })
    expect(call?.choices[0]?.delta.tool_calls).toMatchObject([
      { index: 0, type: 'function', function: { name: 'paint' } },
    ])
  },
  async tool_choice(calls) {
    const tools = [toolOf()]
    const plain = await calls.text('chat/completions', long)
    expect(await calls.text('chat/completions', { ...long, tools, tool_choice: 'none' })).toBe(
      plain,
    )
    const auto = await calls.text('chat/completions', { ...long, tools, tool_choice: 'auto' })
    expect(auto).toBe(await calls.text('chat/completions', { ...long, tools }))
    expect(await callsOf(calls, { tool_choice: 'required' })).toHaveLength(1)
    expect(await calls.refusal('chat/completions', { tool_choice: 'required' })).toMatchObject({
      status: 400,
      param: 'tool_choice',
    })
  },
  async parallel_tool_calls(calls) {
    const mostCalls = async (isParallel: boolean): Promise<number> => {
      const fields = { ...oneCall, tools: [toolOf()], parallel_tool_calls: isParallel }
      const { choices } = await calls.chat({ ...fields, ...hot, n: 12, seed: 3, max_tokens: 120 })
      return Math.max(...choices.map(({ message }) => message.tool_calls?.length ?? 0))
    }
    expect(await mostCalls(false)).toBe(1)
    expect(await mostCalls(true)).toBeGreaterThan(1)
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

const completion: Omit<Proofs<typeof COMPLETION_FIELDS>, Elsewhere<'completion'>> = {
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

async function promptTokens(calls: OpenaiCalls, messages: readonly object[], fields: object = {}) {
  return (await calls.chat({ messages, max_tokens: 1, ...fields })).usage.prompt_tokens
}

/** Of a conversation in which a call was made. */
function withCall(fields: object, named: object = {}, result: object = {}): object[] {
  const call = {
    id: 'c1',
    type: 'function',
    function: { name: 'paint', arguments: '{}', ...named },
    ...fields,
  }
  const said = { role: 'assistant', content: '', tool_calls: [call] }
  return [...SAYS, said, { role: 'tool', content: 'done', tool_call_id: 'c1', ...result }]
}

function refuses(param: string, fields: object): Proof {
  return async (calls) =>
    expect(await calls.refusal('chat/completions', fields)).toMatchObject({ status: 400, param })
}

/** Whether more of it in a call is more of a prompt. */
function isInPrompt(few: object[], many: object[]): Proof {
  return async (calls) =>
    expect(await promptTokens(calls, many)).toBeGreaterThan(await promptTokens(calls, few))
}

const message: Omit<Proofs<typeof MESSAGE_FIELDS>, Elsewhere<'message'>> = {
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
  tool_calls: isInPrompt(SAYS, withCall({})),
  async tool_call_id(calls) {
    expect(await promptTokens(calls, withCall({}))).toBeGreaterThan(0)
    const stray = withCall({}, {}, { tool_call_id: 'c2' })
    await refuses('messages.2.tool_call_id', { messages: stray })(calls)
  },
}

const CALL_PATH = 'messages.1.tool_calls.0'
const call: Proofs<typeof CALL_FIELDS> = {
  id: refuses('messages.2.tool_call_id', { messages: withCall({ id: 'c2' }) }),
  type: refuses(`${CALL_PATH}.type`, { messages: withCall({ type: 'x' }) }),
  function: isInPrompt(
    withCall({}),
    withCall({ function: { name: 'paint', arguments: '{"colour": "red"}' } }),
  ),
}

const callFunction: Proofs<typeof CALL_FUNCTION_FIELDS> = {
  name: isInPrompt(withCall({}), withCall({}, { name: 'paint_all_of_the_house' })),
  async arguments(calls) {
    const few = withCall({})
    await isInPrompt(few, withCall({}, { arguments: '{"colour": "red"}' }))(calls)
    const messages = withCall({}, { arguments: '{"colour' })
    await refuses(`${CALL_PATH}.function.arguments`, { messages })(calls)
  },
}

const tool: Proofs<typeof TOOL_FIELDS> = {
  type: refuses('tools.0.type', { tools: [{ ...toolOf(), type: 'x' }] }),
  async function(calls) {
    expect(await callsOf(calls, { tools: [toolOf({ name: 'cook' })] })).toMatchObject([
      { name: 'cook' },
    ])
    await refuses('tools.0.function', { tools: [{ type: 'function' }] })(calls)
  },
}

const toolFunction: Proofs<typeof TOOL_FUNCTION_FIELDS> = {
  async name(calls) {
    expect(await callsOf(calls, { tools: [toolOf({ name: 'dye' })] })).toMatchObject([
      { name: 'dye' },
    ])
    await refuses('tools.0.function.name', { tools: [toolOf({ name: 'a b' })] })(calls)
  },
  async description(calls) {
    const tools = [toolOf({ description: 'Paints something in a colour.' })]
    const shown = await promptTokens(calls, SAYS, { tools })
    expect(shown).toBeGreaterThan(await promptTokens(calls, SAYS, { tools: [toolOf()] }))
  },
  async parameters(calls) {
    const blue = { ...colours, properties: { colour: { enum: ['blue'] } } }
    expect(await callsOf(calls, { tools: [toolOf({ parameters: blue })] })).toMatchObject([
      { arguments: { colour: 'blue' } },
    ])
    expect(await callsOf(calls, { tools: [toolOf({ parameters: null })] })).toMatchObject([
      { arguments: {} },
    ])
  },
  async strict(calls) {
    const odd = { type: 'object', properties: { a: { oneOf: [] } } }
    const toolsOf = (strict: boolean) => [toolOf({ parameters: odd, strict })]
    expect(await calls.text('chat/completions', { tools: toolsOf(false) })).not.toBe('')
    const path = 'tools.0.function.parameters.properties.a.oneOf'
    await refuses(path, { tools: toolsOf(true) })(calls)
    // With a schema that can be held, text is still an answer.
    expect(await calls.text('chat/completions', { tools: [toolOf({ strict: true })] })).not.toBe('')
  },
}

const both = [toolOf(), toolOf({ name: 'cook' })]
const choiceOf = (name: string, more: object = {}) => ({
  tools: both,
  tool_choice: { type: 'function', function: { name }, ...more },
})
const callsTheNamed: Proof = async (calls) => {
  for (const name of ['paint', 'cook']) {
    expect(await callsOf(calls, choiceOf(name))).toMatchObject([{ name }])
  }
}

const toolChoice: Proofs<typeof TOOL_CHOICE_FIELDS> = {
  type: refuses('tool_choice', choiceOf('paint', { type: 'x' })),
  function: callsTheNamed,
}

const toolChoiceFunction: Proofs<typeof TOOL_CHOICE_FUNCTION_FIELDS> = {
  async name(calls) {
    await callsTheNamed(calls)
    await refuses('tool_choice.function.name', choiceOf('sing'))(calls)
  },
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
  call,
  callFunction,
  tool,
  toolFunction,
  toolChoice,
  toolChoiceFunction,
  streamOptions,
  format,
  jsonSchema,
  completion,
}
