/**
 * One attempt at a request on one host: the signed call, the events that answer it, and how it ends
 * early. When the client leaves, the host is told what the client got before its connection goes.
 */
import { createParser } from 'eventsource-parser'
import { type ChunkEvent, type EndEvent, type GenerateEvent, generateEvent } from '#protocol'
import { EdgeError } from '../errors.ts'
import {
  brokenOff,
  gaveUp,
  type HostFailure,
  parseHostFailure,
  toHostFailure,
  unreachable,
  wrongReply,
} from './host-failure.ts'
import { type HostReply, isOk, readText } from './host-transport.ts'
import { ForeignReply } from './own-reply.ts'
import { readPending } from './own-time.ts'
import { SilenceWatch, type SilenceWatchOptions } from './silence-watch.ts'

export interface AttemptCall extends Omit<SilenceWatchOptions, 'onVerdict'> {
  readonly requestId: string
  /** Sends the request. */
  readonly send: (signal: AbortSignal) => Promise<HostReply>
  /** Tells the host that the client has left. Never rejects, and takes a bounded time. */
  readonly cancel: () => Promise<void>
  /** Aborted when the client leaves. */
  readonly client: AbortSignal
  /** The client gets nothing before the end. */
  readonly isWhole: boolean
}

export type AttemptEvent = ChunkEvent | EndEvent | HostFailure

const ERROR_BYTES_MAX = 64 * 1024
/**
 * So many at once came while this process was away, or are of many choices: a host sends one for
 * each step and choice.
 */
const BURST_EVENTS = 8
/** Made once: each call ends with it. */
const OVER = new Error('the call is over')

/**
 * Up to an `end` or a `failure`; throws only when the client is gone. After the end it reads the
 * stream out, so that the connection can serve the next request.
 */
export async function* runAttempt(call: AttemptCall): AsyncGenerator<AttemptEvent, void, void> {
  const watch = new Watch(call)
  let hasEnded = false
  try {
    const reply = await call.send(watch.signal)
    if (!isOk(reply)) {
      yield parseHostFailure(reply.status, (await readText(reply)).slice(0, ERROR_BYTES_MAX))
      return
    }
    let isAccepted = false
    for await (const events of readEvents(reply, watch)) {
      // Then the client may have left meanwhile: what it does not get is not to be billed.
      if (!call.isWhole && events.length >= BURST_EVENTS) await readPending()
      for (const event of events) {
        if (hasEnded) continue
        if (call.client.aborted) throw clientLeft(call.client)
        // Of another request at any time, or without saying of which: nobody reads on.
        const isOwn = event.type === 'accepted' ? event.request_id === call.requestId : isAccepted
        if (!isOwn && event.type !== 'error') throw new ForeignReply()
        isAccepted ||= event.type === 'accepted'
        if (event.type === 'accepted') continue
        hasEnded = event.type === 'end'
        yield toAttemptEvent(event)
        if (event.type === 'error') return
      }
    }
    if (!hasEnded) yield brokenOff(new Error('the stream ended before its end'))
  } catch (error) {
    if (hasEnded) return
    if (call.client.aborted) throw clientLeft(call.client)
    if (error instanceof ForeignReply) yield wrongReply(error.message)
    else yield watch.hasHeaders ? brokenOff(error) : unreachable(error)
  } finally {
    await watch.end()
  }
}

/** Why nobody needs the answer any more. */
export function clientLeft({ reason }: AbortSignal): EdgeError {
  return reason instanceof EdgeError ? reason : new EdgeError('request_aborted', 'the client left')
}

/** An end that the host did not come to by itself is a failure: this client is still listening. */
function toAttemptEvent(event: ChunkEvent | EndEvent | ErrorEvent): AttemptEvent {
  if (event.type === 'error') return toHostFailure(event)
  if (event.type === 'chunk') return event
  const isWhole = event.finish_reason === 'stop' || event.finish_reason === 'length'
  return isWhole ? event : gaveUp(event.finish_reason)
}

type ErrorEvent = Extract<GenerateEvent, { type: 'error' }>

/** Ends an attempt when the client leaves, or when the call goes nowhere. */
class Watch {
  readonly silence: SilenceWatch
  hasHeaders = false
  readonly #call: AttemptCall
  readonly #controller = new AbortController()
  #farewell: Promise<void> | null = null

  constructor(call: AttemptCall) {
    this.#call = call
    const { client } = call
    this.silence = new SilenceWatch({
      ...call,
      onVerdict: (verdict) => this.#controller.abort(verdict),
    })
    if (client.aborted) this.#controller.abort()
    else client.addEventListener('abort', this.#leave, { once: true })
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** Lets go of the client, and of the host's connection where it is still open. */
  async end(): Promise<void> {
    this.silence.end()
    this.#call.client.removeEventListener('abort', this.#leave)
    if (this.#farewell !== null) await this.#farewell
    this.#controller.abort(OVER)
  }

  readonly #leave = (): void => {
    this.#farewell = this.#call.cancel().then(() => this.#controller.abort())
  }
}

async function* readEvents(
  reply: HostReply,
  watch: Watch,
): AsyncGenerator<readonly GenerateEvent[], void, void> {
  watch.hasHeaders = true
  watch.silence.begun()
  let events: GenerateEvent[] = []
  const parser = createParser({
    onEvent: ({ data }) => {
      watch.silence.heard()
      events.push(generateEvent.parse(JSON.parse(data)))
    },
    onComment: () => watch.silence.heard(),
    onError: (error) => {
      throw error
    },
  })
  const decoder = new TextDecoder()
  // Whoever stops reading does not close the connection: the host is told first.
  for (let bytes = await reply.read(); bytes !== null; bytes = await reply.read()) {
    parser.feed(decoder.decode(bytes, { stream: true }))
    if (events.length === 0) continue
    const ready = events
    events = []
    watch.silence.pause()
    yield ready
    watch.silence.resume()
  }
}
