/**
 * A receiver of CloudEvents over HTTP, as a metering service is one: it checks every event against
 * the rules of CloudEvents 1.0 and its JSON format, takes a batch whole or not at all, and drops
 * what it has by (source, id). What it answers can be scripted.
 */
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { z } from 'zod'

const count = z.int()

/** Attribute names: lower-case letters and digits alone. `data` as documented in edge/README.md. */
const cloudEvent = z
  .strictObject({
    specversion: z.literal('1.0'),
    type: z.literal('llm.usage.v1'),
    source: z.string().regex(/^[\w.~%/-]+$/, 'must be a URI reference'),
    id: z.string().min(1),
    time: z.iso.datetime({ offset: true }),
    subject: z.string().min(1),
    datacontenttype: z.literal('application/json'),
    data: z.strictObject({
      kind: z.enum(['usage', 'usage_reversal']),
      request_id: z.string(),
      attempt: z.int().min(1),
      model: z.string(),
      model_id: z.string().nullable(),
      adapter_version_id: z.string().nullable(),
      base_model: z.string(),
      key_id: z.string().nullable(),
      finish_reason: z.enum(['stop', 'length', 'abort', 'error']),
      reported_by: z.enum(['engine', 'recovered', 'edge']),
      requests: z.union([z.literal(1), z.literal(-1)]),
      prompt_tokens: count,
      cached_prompt_tokens: count,
      completion_tokens: count,
      total_tokens: count,
      gpu_us: count,
      swap_us: count,
      adapter_bytes: count.min(0),
      cost_pusd: z.string().regex(/^-?\d+$/),
      price_id: z.string().nullable(),
      price_basis: z.enum(['named', 'current', 'unpriced']),
    }),
  })
  .refine(({ data }) => data.requests > 0 === (data.kind === 'usage'))
export type ReceivedEvent = z.infer<typeof cloudEvent>
const batch = z.array(cloudEvent).min(1)

/** `lose`: takes the batch, and the connection dies before the answer. */
export type Answer = number | 'lose' | { readonly status: number; readonly retryAfter: string }

export class EventReceiver {
  /** In the order of their first coming. */
  readonly taken = new Map<string, ReceivedEvent>()
  /** What each batch was answered. */
  readonly answers: Answer[] = []
  /** Events that came again. */
  copies = 0
  answer: (events: readonly ReceivedEvent[]) => Answer = () => 204
  readonly #server = createServer((request, response) => {
    void text(request).then((body) => {
      const { authorization, 'content-type': contentType } = request.headers
      const isOurs = authorization === 'Bearer of good news' && request.method === 'POST'
      const isBatch = contentType?.startsWith('application/cloudevents-batch+json') === true
      this.#take(isOurs && isBatch ? body : null, response)
    })
  })

  async start(): Promise<string> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/api/v1/events`
  }

  async stop(): Promise<void> {
    this.#server.close()
    this.#server.closeAllConnections()
    await once(this.#server, 'close')
  }

  #take(body: string | null, response: ServerResponse): void {
    if (body === null) {
      response.writeHead(401).end()
      return
    }
    const parsed = batch.safeParse(JSON.parse(body))
    const answer = parsed.success ? this.answer(parsed.data) : 400
    this.answers.push(answer)
    const status = typeof answer === 'object' ? answer.status : answer
    if (parsed.success && (status === 'lose' || status < 300)) this.#keep(parsed.data)
    if (status === 'lose') response.destroy()
    else {
      const retryAfter = typeof answer === 'object' ? { 'retry-after': answer.retryAfter } : {}
      response.writeHead(status, retryAfter).end(parsed.success ? '' : parsed.error.message)
    }
  }

  #keep(events: readonly ReceivedEvent[]): void {
    for (const event of events) {
      const key = `${event.source} ${event.id}`
      if (this.taken.has(key)) this.copies += 1
      else this.taken.set(key, event)
    }
  }
}
