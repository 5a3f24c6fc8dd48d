/**
 * Node's `fetch` gives a connection back to its pool as soon as a reply is complete, and a short
 * one is complete before anybody has looked at it. So that a connection which gave a reply to
 * another request serves nobody again, it is destroyed when the headers of that reply arrive. What
 * undici says on its diagnostics channels is the only place where reply and socket meet.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { Socket } from 'node:net'
import { REQUEST_ID_HEADER } from '#protocol'
import type { Log } from './log.ts'
import { ForeignReply, isForeign } from './pool/own-reply.ts'

const SENT = 'undici:client:sendHeaders'
const ANSWERED = 'undici:request:headers'
const SENT_ID = new RegExp(`\\r\\n${REQUEST_ID_HEADER}: *([^\\r]*)\\r\\n`, 'i')

/** Watches every `fetch` of this process that names its request. Returns the end of it. */
export function closeForeignReplies(log: Log): () => void {
  const asked = new WeakMap<object, { readonly socket: Socket; readonly requestId: string }>()
  const onSent = (message: unknown): void => {
    const { request, headers, socket } = fieldsOf(message)
    const requestId = typeof headers === 'string' ? SENT_ID.exec(headers)?.[1] : undefined
    if (requestId === undefined || !isObject(request) || !(socket instanceof Socket)) return
    asked.set(request, { socket, requestId })
  }
  const onAnswered = (message: unknown): void => {
    const { request, response } = fieldsOf(message)
    const sent = isObject(request) ? asked.get(request) : undefined
    if (sent === undefined) return
    if (!isForeign(answeredId(fieldsOf(response).headers), sent.requestId)) return
    log('error', 'a host answered another request: its connection is closed', {
      request_id: sent.requestId,
    })
    sent.socket.destroy(new ForeignReply())
  }
  subscribe(SENT, onSent)
  subscribe(ANSWERED, onAnswered)
  return () => {
    unsubscribe(SENT, onSent)
    unsubscribe(ANSWERED, onAnswered)
  }
}

/** Name, value, name, value …, as bytes. */
function answeredId(headers: unknown): string | null {
  if (!Array.isArray(headers)) return null
  const texts = headers.map((each) => (each instanceof Uint8Array ? Buffer.from(each) : each))
  const at = texts.findIndex(
    (text, index) => index % 2 === 0 && String(text).toLowerCase() === REQUEST_ID_HEADER,
  )
  return at < 0 ? null : String(texts[at + 1])
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}

function fieldsOf(message: unknown): Readonly<Record<string, unknown>> {
  return isObject(message) ? { ...message } : {}
}
