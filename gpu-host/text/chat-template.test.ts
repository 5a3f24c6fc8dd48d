import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import type { ChatMessage } from '../wire/chat-input.ts'
import { createChatTemplate, readChatTemplate } from './chat-template.ts'

const CHATML = [
  '{% for message in messages %}',
  "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}",
  '{% endfor %}',
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
].join('')
const HERMES = readFileSync(
  join(import.meta.dirname, '../../examples/chat-templates/smollm2-tools.jinja'),
  'utf8',
)
const NO_TEXTS = { bos: '', eos: '' }

describe('createChatTemplate', () => {
  it('renders the turns and opens the assistant turn', () => {
    const render = createChatTemplate(CHATML, NO_TEXTS)
    expect(render({ messages: [{ role: 'user', content: 'hi' }] })).toBe(
      '<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n',
    )
  })

  it("gives OpenAI's developer role to the template as system", () => {
    const render = createChatTemplate(CHATML, NO_TEXTS)
    expect(render({ messages: [{ role: 'developer', content: 'x' }] })).toContain(
      '<|im_start|>system\nx',
    )
  })

  it('gives a name to the template', () => {
    const named = "{% for message in messages %}{{ message['name'] }}{% endfor %}"
    const render = createChatTemplate(named, NO_TEXTS)
    expect(render({ messages: [{ role: 'user', content: 'x', name: 'ann' }] })).toBe('ann')
  })

  it('never evaluates template syntax inside a message', () => {
    const render = createChatTemplate(CHATML, NO_TEXTS)
    expect(render({ messages: [{ role: 'user', content: '{{ 1 + 1 }}{% x %}' }] })).toContain(
      '{{ 1 + 1 }}{% x %}',
    )
  })

  it("refuses with the template's own words", () => {
    const render = createChatTemplate("{{ raise_exception('roles must alternate') }}", NO_TEXTS)
    expect(() => render({ messages: [{ role: 'user', content: 'x' }] })).toThrowError(
      expect.objectContaining({
        code: 'invalid_request',
        message: expect.stringContaining('roles must alternate'),
      }),
    )
  })

  it('refuses chat, and only chat, when there is no usable template', () => {
    for (const source of [null, '{% for %}']) {
      const render = createChatTemplate(source, NO_TEXTS)
      expect(() => render({ messages: [{ role: 'user', content: 'x' }] })).toThrowError(
        expect.objectContaining({ code: 'invalid_request' }),
      )
    }
  })
})

describe('readChatTemplate', () => {
  const directory = mkdtempSync(join(tmpdir(), 'nozzle-template-'))
  afterAll(() => rmSync(directory, { recursive: true }))
  const read = (source: string) => {
    const path = join(directory, 'template.jinja')
    writeFileSync(path, source)
    return readChatTemplate(path)
  }

  it('takes a template that shows a question', async () => {
    expect(await read(CHATML)).toBe(CHATML)
  })

  it.each([
    ['{% for %}', /not a Jinja template: /],
    ['', /does not show what a user says/],
    ['{{ messages | nosuchfilter }}', /nosuchfilter/],
  ])('says what is wrong with %j, and which setting named it', async (source, words) => {
    const refused = read(source)
    await expect(refused).rejects.toMatchObject({ code: 'invalid_request' })
    await expect(refused).rejects.toThrow(words)
    await expect(refused).rejects.toThrow(/^NOZZLE_CHAT_TEMPLATE: .*template\.jinja: /)
  })

  it('says that there is no file', async () => {
    await expect(readChatTemplate(join(directory, 'none'))).rejects.toThrow(/none: ENOENT/)
  })
})

describe('tools', () => {
  const ask = { role: 'user', content: 'Weather in Oslo?' } as const
  const weather = {
    name: 'get_weather',
    description: 'Of a town.',
    parameters: { type: 'object', properties: { town: { type: 'string' } } },
  }
  const called: ChatMessage = {
    role: 'assistant',
    content: '',
    tool_calls: [{ id: 'call_1', name: 'get_weather', arguments: '{"town":"Oslo"}' }],
  }
  const result = { role: 'tool', content: '-3 °C', tool_call_id: 'call_1' } as const

  it('are shown to the model, and so are its calls and their results', () => {
    const render = createChatTemplate(HERMES, NO_TEXTS)
    const prompt = render({ messages: [ask, called, result], tools: [weather, { name: 'now' }] })
    expect(prompt).toContain('"description": "Of a town."')
    expect(prompt).toContain('"name": "now"')
    expect(prompt).toContain(
      '<tool_call>\n{"name": "get_weather", "arguments": {"town": "Oslo"}}\n</tool_call>',
    )
    expect(prompt).toContain('<tool_response>\n-3 °C\n</tool_response>')
    expect(render({ messages: [ask] })).not.toContain('tool')
  })

  const XML = HERMES.replace(
    /\{"name": "\{\{ call[^\n]*/,
    '<function={{ call.function.name }}>{{ call.function.arguments | tojson }}</function>',
  )
  const NO_RESULTS = HERMES.replace('{{ message.content }}\n</tool_response>', '</tool_response>')
  it.each([
    ['shows none', CHATML, undefined],
    ['writes calls in another form', XML, undefined],
    ['shows no results', NO_RESULTS, undefined],
    ['raises at them', `{% if tools %}{{ raise_exception('no') }}{% endif %}${HERMES}`, undefined],
    ['writes them with control tokens', HERMES, (text: string) => text !== '<tool_call>'],
  ])('are refused where the template %s', (_, source, isWritable) => {
    const render = createChatTemplate(source, NO_TEXTS, isWritable)
    const refusal = (param: string) => expect.objectContaining({ code: 'invalid_request', param })
    expect(() => render({ messages: [ask], tools: [weather] })).toThrowError(refusal('tools'))
    expect(() => render({ messages: [ask, called] })).toThrowError(refusal('messages.1.tool_calls'))
    expect(render({ messages: [ask] })).toContain('Weather in Oslo?')
  })
})
