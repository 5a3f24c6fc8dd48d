/**
 * Hands a batch to the receiver over HTTP. What the receiver refuses for its content is halved
 * until the events at fault stand alone, so that one cannot hold up the others; every other failure
 * is the receiver's or the network's, and the whole batch is sent again later.
 */
import { errorText } from '../errors.ts'
import type { CloudEvent } from './cloud-event.ts'

export interface Receiver {
  readonly url: string
  /** null = no authorization. */
  readonly token: string | null
}

export interface RefusedEvent {
  readonly entryId: string
  readonly reason: string
}

/** The receiver did not answer, was not ready, or would not let us in: later, all of it again. */
export class ReceiverUnavailable extends Error {
  override readonly name = 'ReceiverUnavailable'
  readonly code = 'receiver_unavailable'
  /** null = the receiver did not say. */
  readonly retryAfterMs: number | null

  constructor(message: string, retryAfterMs: number | null) {
    super(message)
    this.retryAfterMs = retryAfterMs
  }
}

const TIMEOUT_MS = 20_000
const REASON_SIGNS_MAX = 300
/** What says of these very events that they are wrong: bad request, too large, unprocessable. */
const REFUSALS = [400, 413, 422]

/** Resolves to the events that the receiver will not take; it has all others. */
export async function sendBatch(
  fetch: typeof globalThis.fetch,
  receiver: Receiver,
  events: readonly CloudEvent[],
): Promise<RefusedEvent[]> {
  const refusal = await post(fetch, receiver, events)
  const [only] = events
  if (refusal === null || only === undefined) return []
  if (events.length === 1) return [{ entryId: only.id, reason: refusal }]
  const middle = Math.ceil(events.length / 2)
  const first = await sendBatch(fetch, receiver, events.slice(0, middle))
  return [...first, ...(await sendBatch(fetch, receiver, events.slice(middle)))]
}

/** null = taken; else why not. Throws ReceiverUnavailable. */
async function post(
  fetch: typeof globalThis.fetch,
  { url, token }: Receiver,
  events: readonly CloudEvent[],
): Promise<string | null> {
  let response: Response
  try {
    response = await fetch(url, {
      method: 'POST',
      headers: {
        'content-type': 'application/cloudevents-batch+json; charset=utf-8',
        ...(token !== null && { authorization: `Bearer ${token}` }),
      },
      body: JSON.stringify(events),
      // A receiver that has moved is told to the operator, not followed with the token.
      redirect: 'manual',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
  } catch (error) {
    throw new ReceiverUnavailable(`no answer: ${errorText(error)}`, null)
  }
  const text = (await response.text().catch(() => '')).slice(0, REASON_SIGNS_MAX)
  if (response.ok) return null
  const reason = `${response.status}: ${text}`
  if (REFUSALS.includes(response.status)) return reason
  throw new ReceiverUnavailable(reason, retryAfterMs(response.headers.get('retry-after')))
}

function retryAfterMs(header: string | null): number | null {
  return header !== null && /^\d{1,6}$/.test(header) ? Number(header) * 1000 : null
}
