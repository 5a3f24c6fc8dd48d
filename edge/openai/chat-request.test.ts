import { describe, expect, it } from 'vitest'
import { parseChatRequest } from './chat-request.ts'
import { parseCompletionRequest } from './completion-request.ts'
import { JSON_OBJECT_GRAMMAR } from './json-schema/schema-grammar.ts'

const messages = [{ role: 'user', content: 'hi' }]
const chat = (extra: object) => parseChatRequest({ model: 'm', messages, ...extra }).generate

describe('parseChatRequest', () => {
  it("takes OpenAI's defaults for all that is absent or null", () => {
    const nulls = { temperature: null, top_p: null, stop: null, seed: null, max_tokens: null }
    const expected = {
      input: { kind: 'chat', messages },
      sampling: {
        temperature: 1,
        top_p: 1,
        top_k: 0,
        min_p: 0,
        frequency_penalty: 0,
        presence_penalty: 0,
        repetition_penalty: 1,
        seed: null,
        logit_bias: {},
        grammar: null,
      },
      n: 1,
      max_tokens: null,
      stop: [],
      ignore_eos: false,
      logprobs: false,
      top_logprobs: 0,
    }
    expect(chat({})).toEqual(expected)
    expect(chat(nulls)).toEqual(expected)
  })

  it('passes sampling on, and extensions by their usual names', () => {
    const sampling = {
      temperature: 0.5,
      top_p: 0.9,
      top_k: 40,
      min_p: 0.05,
      frequency_penalty: -1,
      presence_penalty: 1,
      repetition_penalty: 1.1,
      logit_bias: { 42: -100 },
      grammar: 'root ::= "a"',
    }
    expect(chat({ ...sampling, seed: 7, ignore_eos: true })).toMatchObject({
      sampling: { ...sampling, seed: 7 },
      ignore_eos: true,
    })
    expect(chat({ top_k: -1, top_p: 0 }).sampling).toMatchObject({ top_k: 0, top_p: 1e-6 })
    expect(chat({ seed: -1 }).sampling.seed).toBe(0xffff_ffff)
  })

  it('prefers the newer name of the token limit', () => {
    expect(chat({ max_tokens: 9, max_completion_tokens: 3 }).max_tokens).toBe(3)
    expect(chat({ max_tokens: 9 }).max_tokens).toBe(9)
  })

  it('ignores what changes no answer', () => {
    const harmless = {
      user: 'u',
      metadata: { a: 'b' },
      store: false,
      service_tier: 'auto',
      n: 1,
      tools: [],
      tool_choice: 'none',
      parallel_tool_calls: true,
      modalities: ['text'],
      prompt_cache_key: 'k',
      safety_identifier: 's',
      response_format: { type: 'text' },
      min_tokens: 0,
      typical_p: 1,
      lora: [],
    }
    expect(chat(harmless)).toEqual(chat({}))
  })

  it('constrains json_object to a grammar', () => {
    const format = { response_format: { type: 'json_object' } }
    expect(chat(format).sampling.grammar).toBe(JSON_OBJECT_GRAMMAR)
    expect(() => chat({ ...format, grammar: 'root ::= "a"' })).toThrow('"grammar"')
  })

  it('refuses what it does not know, but null, which asks for nothing', () => {
    expect(() => chat({ zzz: 1 })).toThrow(
      expect.objectContaining({ code: 'unknown_parameter', param: 'zzz' }),
    )
    expect(() => chat({ messages: [{ role: 'user', content: '', zzz: 1 }] })).toThrow(
      expect.objectContaining({ code: 'unknown_parameter', param: 'messages.0.zzz' }),
    )
    expect(chat({ zzz: null })).toEqual(chat({}))
  })

  it.each([
    [{ functions: [{}] }, 'functions'],
    [{ audio: {} }, 'audio'],
    [{ modalities: ['audio'] }, 'modalities'],
    [{ top_logprobs: 2 }, 'top_logprobs'],
    [{ guided_json: {} }, 'guided_json'],
    [{ min_tokens: 4 }, 'min_tokens'],
    [{ messages: [{ role: 'assistant', function_call: {} }] }, 'messages.0.function_call'],
    [
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }] },
      'messages.0.content.0.image_url',
    ],
    [{ messages: [{ role: 'user', content: [{ type: 'x' }] }] }, 'messages.0.content.0.type'],
    [{ lora: [{ id: 0, scale: 1 }] }, 'lora'],
    [{ store: true }, 'store'],
    [{ stream_options: { include_usage: true } }, 'stream_options'],
    [{ response_format: { type: 'json_object', schema: {} } }, 'response_format.schema'],
  ])('refuses what it cannot honour, case %#', (extra, param) => {
    expect(() => chat(extra)).toThrow(
      expect.objectContaining({ code: 'unsupported_parameter', param }),
    )
  })

  it.each([
    [{ messages: [{ role: 'nobody', content: '' }] }, 'messages.0.role'],
    [{ max_tokens: 0 }, 'max_tokens'],
    [{ logit_bias: { x: 1 } }, 'logit_bias.x'],
    [{ stream: 'yes' }, 'stream'],
    [{ n: 0 }, 'n'],
    [{ grammar: 'x'.repeat(65_537) }, 'grammar'],
    [{ response_format: { type: 'xml' } }, 'response_format.type'],
    [
      { response_format: { type: 'json_schema', json_schema: { schema: {} } } },
      'response_format.json_schema.name',
    ],
    [{ n: 17 }, 'n'],
    [{ stop: ['a', 'b', 'c', 'd', 'e'] }, 'stop'],
    [{ top_logprobs: 21, logprobs: true }, 'top_logprobs'],
    [{ logit_bias: { 5: 101 } }, 'logit_bias.5'],
    [{ seed: 1.5 }, 'seed'],
  ])('names the wrong field, case %#', (extra, param) => {
    expect(() => chat(extra)).toThrow(expect.objectContaining({ code: 'invalid_request', param }))
  })
})

describe('tools', () => {
  const parameters = {
    type: 'object',
    properties: { town: { type: 'string' } },
    required: ['town'],
    additionalProperties: false,
  }
  const functionOf = (extra: object = {}) => ({ name: 'weather', parameters, ...extra })
  const toolOf = (extra: object = {}) => ({ type: 'function', function: functionOf(extra) })
  const offer = (extra: object = {}, tool: object = toolOf()) =>
    parseChatRequest({ model: 'm', messages, tools: [tool], ...extra })
  const grammarOf = (extra: object, tool?: object) => offer(extra, tool).generate.sampling.grammar

  it('go to the model as they are, and their calls are read out of its answer', () => {
    const call = offer({}, toolOf({ description: 'Of a town.', strict: false }))
    expect(call.generate.input).toEqual({
      kind: 'chat',
      messages,
      tools: [{ name: 'weather', description: 'Of a town.', parameters }],
    })
    expect(call.callable).toEqual(new Set(['weather']))
    expect(call.generate.sampling.grammar).toBeNull()
    for (const empty of [undefined, null, {}]) {
      const { input } = offer({}, toolOf({ parameters: empty })).generate
      expect(input).toMatchObject({ tools: [{ name: 'weather' }] })
      expect(JSON.stringify(input)).not.toContain('parameters')
    }
  })

  it('are left out where none may be called', () => {
    const none = offer({ tool_choice: 'none' })
    expect(none.callable).toBeNull()
    expect(none.generate).toEqual(chat({}))
  })

  it('constrain the answer where it must be a call, or hold a schema', () => {
    const call = '<tool_call>'
    expect(grammarOf({ tool_choice: 'auto' })).toBeNull()
    for (const extra of [
      { tool_choice: 'required' },
      { tool_choice: { type: 'function', function: { name: 'weather' } } },
      { response_format: { type: 'json_object' } },
    ]) {
      expect(grammarOf(extra)).toContain(call)
    }
    // Text may come before a call, so the mark is not said in one piece.
    for (const grammar of [
      grammarOf({}, toolOf({ strict: true })),
      grammarOf({ parallel_tool_calls: false }),
    ]) {
      expect(grammar).toMatch(/^root ::= r\d+\n/)
      expect(grammar).toContain('weather')
    }
  })

  it('are one where one is named', () => {
    const named = { tool_choice: { type: 'function', function: { name: 'now' } } }
    const tools = [toolOf(), { type: 'function', function: { name: 'now' } }]
    const call = parseChatRequest({ model: 'm', messages, tools, ...named })
    expect(call.callable).toEqual(new Set(['now']))
    expect(call.generate.input).toMatchObject({ tools: [{ name: 'weather' }, { name: 'now' }] })
    expect(call.generate.sampling.grammar).not.toContain('weather')
  })

  it('are remembered with their calls, and results have the name of their tool', () => {
    const tool_calls = [
      { id: 'c1', type: 'function', function: { name: 'weather', arguments: '{"town":"Oslo"}' } },
    ]
    const said = [
      ...messages,
      { role: 'assistant', content: null, tool_calls },
      { role: 'tool', tool_call_id: 'c1', content: '-3' },
      { role: 'assistant', content: 'Cold.', tool_calls: [] },
    ]
    const { input } = parseChatRequest({ model: 'm', messages: said }).generate
    expect(input).toEqual({
      kind: 'chat',
      messages: [
        ...messages,
        {
          role: 'assistant',
          content: '',
          tool_calls: [{ id: 'c1', name: 'weather', arguments: '{"town":"Oslo"}' }],
        },
        { role: 'tool', content: '-3', tool_call_id: 'c1', name: 'weather' },
        { role: 'assistant', content: 'Cold.' },
      ],
    })
  })

  const called = (extra: object, more: readonly object[] = []) => ({
    messages: [
      {
        role: 'assistant',
        tool_calls: [
          { id: 'c1', type: 'function', function: { name: 'f', arguments: '{}' }, ...extra },
        ],
      },
      ...more,
    ],
  })
  it.each([
    [{ tools: 'all' }, 'tools'],
    [{ tools: [{ function: functionOf() }] }, 'tools.0.type'],
    [{ tools: [{ type: 'function' }] }, 'tools.0.function'],
    [{ tools: [toolOf({ name: 'a b' })] }, 'tools.0.function.name'],
    [{ tools: [toolOf(), toolOf()] }, 'tools.1.function.name'],
    [{ tools: [toolOf({ parameters: { type: 'string' } })] }, 'tools.0.function.parameters.type'],
    [{ tools: Array(129).fill(toolOf()) }, 'tools'],
    [{ tool_choice: 'required' }, 'tool_choice'],
    [{ tool_choice: 'any' }, 'tool_choice'],
    [{ tool_choice: { type: 'function', function: { name: 'x' } } }, 'tool_choice.function.name'],
    [{ parallel_tool_calls: 1 }, 'parallel_tool_calls'],
    [
      called({ function: { name: 'f', arguments: '{' } }),
      'messages.0.tool_calls.0.function.arguments',
    ],
    [
      called({ function: { name: 'f', arguments: '[]' } }),
      'messages.0.tool_calls.0.function.arguments',
    ],
    [called({ id: '' }), 'messages.0.tool_calls.0.id'],
    [called({}, [{ role: 'tool', content: '', tool_call_id: 'c2' }]), 'messages.1.tool_call_id'],
    [called({}, [{ role: 'user', content: '', tool_call_id: 'c1' }]), 'messages.1.tool_call_id'],
    [called({}, [{ role: 'tool', content: '' }]), 'messages.1.tool_call_id'],
    [{ tool_choice: { type: 'function' } }, 'tool_choice'],
    [
      { messages: [{ ...called({}).messages[0], role: 'user', content: '' }] },
      'messages.0.tool_calls',
    ],
  ])('are refused by the field that is wrong, case %#', (extra, param) => {
    expect(() => chat(extra)).toThrow(expect.objectContaining({ code: 'invalid_request', param }))
  })

  const oneOf = { type: 'object', properties: { a: { oneOf: [] } } }
  it.each([
    [{ grammar: 'root ::= "a"' }, toolOf(), 'grammar'],
    [{}, { ...toolOf(), custom: {} }, 'tools.0.custom'],
    [{}, { type: 'custom', custom: { name: 'x' } }, 'tools.0.custom'],
    [
      { tool_choice: { type: 'allowed_tools', allowed_tools: { mode: 'auto', tools: [] } } },
      toolOf(),
      'tool_choice.allowed_tools',
    ],
    [
      { tool_choice: 'required' },
      toolOf({ parameters: oneOf }),
      'tools.0.function.parameters.properties.a.oneOf',
    ],
    [
      {},
      toolOf({ parameters: oneOf, strict: true }),
      'tools.0.function.parameters.properties.a.oneOf',
    ],
  ])('are refused by the field that cannot be honoured, case %#', (extra, tool, param) => {
    expect(() => offer(extra, tool)).toThrow(
      expect.objectContaining({ code: 'unsupported_parameter', param }),
    )
  })

  it('are refused where their fields stand in the wrong object', () => {
    const unknown = (param: string) => expect.objectContaining({ code: 'unknown_parameter', param })
    expect(() => offer({}, { type: 'function', name: 'weather' })).toThrow(unknown('tools.0.name'))
    expect(() => offer({ tool_choice: { type: 'function', name: 'weather' } })).toThrow(
      unknown('tool_choice.name'),
    )
  })

  it('may have any schema where it need not hold', () => {
    expect(grammarOf({}, toolOf({ parameters: oneOf }))).toBeNull()
  })
})

describe('parseCompletionRequest', () => {
  it('constrains to a format as chat does', () => {
    const response_format = { type: 'json_object' }
    const { sampling } = parseCompletionRequest({ prompt: 'a', response_format }).generate
    expect(sampling.grammar).toBe(JSON_OBJECT_GRAMMAR)
  })

  it('takes text or tokens, one prompt', () => {
    const parse = (prompt: unknown) => parseCompletionRequest({ model: 'm', prompt }).generate.input
    expect(parse('a')).toEqual({ kind: 'text', prompt: 'a' })
    expect(parse(['a'])).toEqual({ kind: 'text', prompt: 'a' })
    expect(parse([1, 2])).toEqual({ kind: 'tokens', tokens: [1, 2] })
    expect(parse([[1, 2]])).toEqual({ kind: 'tokens', tokens: [1, 2] })
    for (const prompt of [
      ['a', 'b'],
      [[1], [2]],
    ]) {
      expect(() => parse(prompt)).toThrow(expect.objectContaining({ param: 'prompt' }))
    }
    for (const prompt of [[], [[]], undefined, 7, [1, 'a']]) {
      expect(() => parse(prompt)).toThrow(
        expect.objectContaining({ param: expect.stringMatching(/^prompt/) }),
      )
    }
  })

  it.each([{ echo: true }, { suffix: 's' }, { best_of: 2 }, { n: 2, best_of: 3 }])(
    'refuses %j',
    (extra) => {
      expect(() => parseCompletionRequest({ prompt: 'a', ...extra })).toThrow(
        expect.objectContaining({
          code: 'unsupported_parameter',
          param: Object.keys(extra).at(-1),
        }),
      )
    },
  )

  it('takes n, and a best_of that asks for no more', () => {
    const { generate } = parseCompletionRequest({ prompt: 'a', n: 4, best_of: 4 })
    expect(generate.n).toBe(4)
  })

  it('stops after 16 tokens unless told otherwise', () => {
    const { generate } = parseCompletionRequest({
      prompt: 'a',
      logprobs: 0,
      echo: false,
      suffix: '',
    })
    expect(generate).toMatchObject({ max_tokens: 16, logprobs: true, top_logprobs: 0 })
  })
})
