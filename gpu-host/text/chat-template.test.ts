import { describe, expect, it } from 'vitest'
import { createChatTemplate } from './chat-template.ts'

const CHATML = [
  '{% for message in messages %}',
  "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}",
  '{% endfor %}',
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
].join('')
const NO_TEXTS = { bos: '', eos: '' }

describe('createChatTemplate', () => {
  it('renders the turns and opens the assistant turn', () => {
    const render = createChatTemplate(CHATML, NO_TEXTS)
    expect(render([{ role: 'user', content: 'hi' }])).toBe(
      '<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n',
    )
  })

  it("gives OpenAI's developer role to the template as system", () => {
    const render = createChatTemplate(CHATML, NO_TEXTS)
    expect(render([{ role: 'developer', content: 'x' }])).toContain('<|im_start|>system\nx')
  })

  it('gives a name to the template', () => {
    const named = "{% for message in messages %}{{ message['name'] }}{% endfor %}"
    const render = createChatTemplate(named, NO_TEXTS)
    expect(render([{ role: 'user', content: 'x', name: 'ann' }])).toBe('ann')
  })

  it('never evaluates template syntax inside a message', () => {
    const render = createChatTemplate(CHATML, NO_TEXTS)
    expect(render([{ role: 'user', content: '{{ 1 + 1 }}{% x %}' }])).toContain(
      '{{ 1 + 1 }}{% x %}',
    )
  })

  it("refuses with the template's own words", () => {
    const render = createChatTemplate("{{ raise_exception('roles must alternate') }}", NO_TEXTS)
    expect(() => render([{ role: 'user', content: 'x' }])).toThrowError(
      expect.objectContaining({
        code: 'invalid_request',
        message: expect.stringContaining('roles must alternate'),
      }),
    )
  })

  it('refuses chat, and only chat, when there is no usable template', () => {
    for (const source of [null, '{% for %}']) {
      const render = createChatTemplate(source, NO_TEXTS)
      expect(() => render([{ role: 'user', content: 'x' }])).toThrowError(
        expect.objectContaining({ code: 'invalid_request' }),
      )
    }
  })
})
