import { describe, expect, it } from 'vitest'
import { type CompletionDelta, readCompletion } from './completion-stream.ts'
import { ShownTokens } from './shown-tokens.ts'

/** As vLLM 0.32 answered, greedily, with `stop: ['zzzz', '8%ra']` and `logprobs: 0`. */
const RECORDED: readonly [text: string, token: string, finish?: string][] = [
  ['', 'P'],
  ['', 'L'],
  ['PLpro', 'prompt'],
  ['mp', 'ad'],
  ['ta', 'AP'],
  ['d', 'j'],
  ['A', '"'],
  ['P', '8'],
  ['j', '%'],
  ['"', 'ran', 'stop'],
]
/** Written out as it came, but for ids; the last event has the usage alone. */
const PROMPT_TOKENS = 22

function recordedEvents(withLogprobs: boolean): string[] {
  const events = RECORDED.map(([text, token, finish = null], index) => {
    const logprobs = { tokens: [token], token_logprobs: [-1], top_logprobs: [{ [token]: -1 }] }
    const choice = {
      index: 0,
      text,
      logprobs: withLogprobs ? logprobs : null,
      finish_reason: finish,
      stop_reason: finish === null ? null : '8%ra',
    }
    const usage = {
      prompt_tokens: PROMPT_TOKENS,
      total_tokens: PROMPT_TOKENS + index + 1,
      completion_tokens: index + 1,
    }
    return JSON.stringify({ object: 'text_completion', model: 'a1', choices: [choice], usage })
  })
  const usage = {
    prompt_tokens: PROMPT_TOKENS,
    total_tokens: 32,
    completion_tokens: 10,
    prompt_tokens_details: { cached_tokens: 16 },
  }
  return [...events, JSON.stringify({ object: 'text_completion', choices: [], usage }), '[DONE]']
}

/** In pieces that care nothing for events or characters. */
function streamOf(events: readonly string[]): ReadableStream<Uint8Array<ArrayBuffer>> {
  const bytes = new TextEncoder().encode(events.map((data) => `data: ${data}\n\n`).join(''))
  return new ReadableStream({
    start(controller) {
      for (let at = 0; at < bytes.length; at += 7) controller.enqueue(bytes.slice(at, at + 7))
      controller.close()
    },
  })
}

async function read(events: readonly string[]): Promise<CompletionDelta[]> {
  return Array.fromAsync(readCompletion(streamOf(events)))
}

describe('the stream of a completion', () => {
  it('adds up to the usage that the server told, cached prompt tokens with the last', async () => {
    const deltas = await read(recordedEvents(false))
    expect(deltas.map(({ text }) => text).join('')).toBe('PLpromptadAPj"')
    expect(deltas.map(({ tokens }) => tokens)).toEqual(Array(10).fill(1))
    expect(deltas.map(({ finish }) => finish)).toEqual([...Array(9).fill(null), 'stop'])
    expect(deltas.at(-1)).toMatchObject({ cachedTokens: 16, isEndToken: false })
  })

  it('tells of what broke off, went wrong, or was not counted', async () => {
    const events = recordedEvents(false)
    const failureOf = (changed: readonly string[]) =>
      read(changed).then(
        () => null,
        (error: { failure?: string }) => error.failure,
      )
    expect(await failureOf(events.slice(0, 3))).toBe('unreachable')
    expect(await failureOf([...events.slice(0, 3), '[DONE]'])).toBe('failed')
    expect(await failureOf(['{"error":{"message":"x","code":400}}', '[DONE]'])).toBe('refused')
    expect(await failureOf(['{"error":{"message":"x","code":500}}', '[DONE]'])).toBe('failed')
    expect(await failureOf(['no json', '[DONE]'])).toBe('failed')
    const uncounted = JSON.stringify({ choices: [{ text: 'x' }] })
    expect(await failureOf([uncounted, '[DONE]'])).toBe('failed')
    expect(await failureOf([events[4] ?? '', events[2] ?? '', '[DONE]'])).toBe('failed')
    const aborted = (events.at(-3) ?? '').replace('"stop"', '"abort"')
    expect(await failureOf([aborted, '[DONE]'])).toBe('failed')
  })
})

describe('tokens that are out with their text', () => {
  it('counts a token with the event that shows the last of it', async () => {
    const shown = new ShownTokens(['zzzz', '8%ra'])
    const pieces = (await read(recordedEvents(false))).map((delta) => shown.push(delta))
    const owedText = RECORDED.map(([, token]) => token)
    let text = ''
    let tokens = 0
    for (const [index, piece] of pieces.entries()) {
      text += piece.text
      tokens += piece.tokens
      const isLast = index === pieces.length - 1
      const drawn = owedText.slice(0, tokens).join('')
      if (!isLast) expect(drawn.length).toBeLessThanOrEqual(text.length)
      // Nor later than it must: the token after would not be out.
      const more = owedText.slice(0, tokens + 1).join('')
      if (!isLast && tokens > 2) expect(more.length).toBeGreaterThan(text.length)
    }
    expect(tokens).toBe(10)
  })

  it('tells no log probability of what a stop string hid', async () => {
    const shown = new ShownTokens(['zzzz', '8%ra'])
    const pieces = (await read(recordedEvents(true))).map((delta) => shown.push(delta))
    const told = pieces.flatMap(({ logprobs }) => logprobs.map(({ token }) => token))
    expect(told.join('')).toBe('PLpromptadAPj"')
    expect(pieces.reduce((sum, { tokens }) => sum + tokens, 0)).toBe(10)
  })

  it('owes each token at once where nothing is held back', async () => {
    const shown = new ShownTokens([])
    const [first] = await read(recordedEvents(false).slice(2))
    if (first === undefined) throw new Error('no delta')
    expect(shown.push({ ...first, tokens: 3 })).toMatchObject({ tokens: 3 })
    expect(shown.push({ ...first, text: '', tokens: 1 })).toMatchObject({ text: '', tokens: 1 })
  })
})
