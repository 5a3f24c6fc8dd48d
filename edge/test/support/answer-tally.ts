/**
 * How many tokens of an answer a client has: a token of the fake engine is one character, so text
 * tells tokens, and a choice that is finished has all of its own.
 */
import { z } from 'zod'

const frame = z.object({
  choices: z.array(
    z.object({
      index: z.number(),
      delta: z.object({ content: z.string().optional() }).optional(),
      finish_reason: z.string().nullable(),
    }),
  ),
  usage: z.object({ completion_tokens: z.number() }).nullish(),
})
const whole = z.object({ usage: z.object({ completion_tokens: z.number() }) })

export class AnswerTally {
  readonly #choiceTokens: number
  #text = ''
  readonly #visible = new Map<number, number>()
  readonly #finished = new Set<number>()
  #usageTokens: number | null = null
  /** `[DONE]` has come, or a whole reply. */
  isComplete = false

  /** `choiceTokens`: of a choice that ends by itself. */
  constructor(choiceTokens: number) {
    this.#choiceTokens = choiceTokens
  }

  get tokens(): number {
    if (this.isComplete && this.#usageTokens !== null) return this.#usageTokens
    let tokens = 0
    for (const [choice, visible] of this.#visible) {
      tokens += this.#finished.has(choice) ? this.#choiceTokens : visible
    }
    return tokens
  }

  take(text: string): void {
    this.#text += text
    if (this.#text.startsWith('{')) {
      this.#takeWhole()
      return
    }
    const frames = this.#text.split('\n\n')
    this.#text = frames.pop() ?? ''
    for (const each of frames) {
      if (!each.startsWith('data: ')) continue
      if (each === 'data: [DONE]') this.isComplete = true
      else this.#count(frame.parse(JSON.parse(each.slice('data: '.length))))
    }
  }

  #takeWhole(): void {
    if (!this.#text.endsWith('}')) return
    const { usage } = whole.parse(JSON.parse(this.#text))
    this.isComplete = true
    this.#usageTokens = usage.completion_tokens
  }

  #count({ choices, usage }: z.infer<typeof frame>): void {
    this.#usageTokens = usage?.completion_tokens ?? this.#usageTokens
    for (const { index, delta, finish_reason } of choices) {
      const shown = (delta?.content ?? '').length
      this.#visible.set(index, (this.#visible.get(index) ?? 0) + shown)
      if (finish_reason !== null) this.#finished.add(index)
    }
  }
}
