import { describe, expect, it } from 'vitest'
import { Random } from '../../native/test/support/random.ts'
import { ModelPeek } from './model-peek.ts'

/** What is found, and of how many of the bytes, when they come in pieces. */
function peek(body: string, pieceBytes = 1): { name: string | null; bytes: number } {
  const bytes = new TextEncoder().encode(body)
  const peeking = new ModelPeek()
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    const name = peeking.take(bytes.subarray(at, at + pieceBytes))
    if (name !== null) return { name, bytes: Math.min(bytes.length, at + pieceBytes) }
  }
  return { name: null, bytes: bytes.length }
}

describe('ModelPeek', () => {
  it('finds the model before what follows it', () => {
    const head = '{ "stream" : true, "model" : "acme/support"'
    expect(peek(`${head}, "messages": [{"content": "hello"}]}`)).toEqual({
      name: 'acme/support',
      bytes: head.length,
    })
  })

  it.each([
    ['one inside of a message', '{"messages":[{"model":"no","content":"\\"model\\":\\"no\\""}]}'],
    ['one that is no text', '{"model":{"model":"no"},"x":["model"]}'],
    ['a text of that name', '{"user":"model","x":"no"}'],
    ['none at all', '{}'],
  ])('does not take %s for it', (_, body) => {
    expect(peek(body).name).toBeNull()
  })

  it('gives up on a body whose beginning does not have it', () => {
    expect(peek(`{"prompt":"${'a'.repeat(70_000)}","model":"late"}`, 4096).name).toBeNull()
  })

  it('agrees with the parser, whatever the fields, their order and the pieces', () => {
    const texts = ['a"b', '\\', '\u{1f600}', 'model', '{"model":"x"}', '],[', 'é\n', '']
    for (let seed = 0; seed < 2000; seed++) {
      const random = new Random('model-peek', seed)
      const text = () => texts[random.integer(texts.length)] ?? ''
      const value = (): unknown =>
        [text(), random.integer(9), null, [text(), [text()]], { model: text(), x: [text()] }][
          random.integer(5)
        ]
      const fields: [string, unknown][] = Array.from({ length: random.integer(5) }, (_, i) => {
        return [`${i}${text()}`, value()]
      })
      if (random.integer(4) > 0) fields.splice(random.integer(5), 0, ['model', text()])
      const body = JSON.stringify(Object.fromEntries(fields), null, random.integer(3))
      const { model } = JSON.parse(body) as { model?: string }
      expect(peek(body, 1 + random.integer(20)).name, `seed ${seed}: ${body}`).toBe(model ?? null)
    }
  })
})
