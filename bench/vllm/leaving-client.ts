/**
 * A client that leaves in the middle of a stream and knows what it had got by then: everything that
 * its connection had brought is read before it is closed. (`fetch` drops what it has queued.)
 */
import { request } from 'node:http'
import { text } from 'node:stream/consumers'
import { z } from 'zod'
import type { Question } from '../../test/support/inference.ts'

export interface Left {
  readonly requestId: string
  /** Tokens that had come. */
  readonly tokens: number
}

const frame = z.object({
  choices: z.array(z.object({ logprobs: z.object({ content: z.array(z.unknown()) }).nullish() })),
})

/** Asks for a stream with log probabilities, and leaves once `tokensMin` tokens have come. */
export async function leaveAfter(question: Question, tokensMin: number): Promise<Left> {
  const body = JSON.stringify({ ...question.body, stream: true, logprobs: true })
  const headers = {
    authorization: `Bearer ${question.apiKey}`,
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
  }
  const call = request(`${question.baseUrl}/chat/completions`, { method: 'POST', headers })
  return new Promise((resolve, reject) => {
    call.on('error', reject)
    call.on('response', (response) => {
      if (response.statusCode !== 200) {
        text(response).then((told) => reject(new Error(`${response.statusCode}: ${told}`)), reject)
        return
      }
      let received = ''
      let isLeaving = false
      response.setEncoding('utf8')
      response.on('error', () => {})
      response.on('data', (piece: string) => {
        received += piece
        if (isLeaving || countTokens(received) < tokensMin) return
        isLeaving = true
        // After all that came with this very read.
        setImmediate(() => {
          response.destroy()
          const requestId = String(response.headers['x-request-id'])
          resolve({ requestId, tokens: countTokens(received) })
        })
      })
    })
    call.end(body)
  })
}

function countTokens(received: string): number {
  const frames = received.split('\n\n').slice(0, -1)
  return frames
    .filter((each) => each.startsWith('data: {'))
    .flatMap((each) => frame.parse(JSON.parse(each.slice('data: '.length))).choices)
    .reduce((sum, { logprobs }) => sum + (logprobs?.content.length ?? 0), 0)
}
