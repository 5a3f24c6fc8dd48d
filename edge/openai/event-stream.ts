/**
 * Host events → OpenAI's server-sent events, at the client's pace: the next event is read when the
 * client took the last. Comments go out while there is nothing to say. A failure after the first
 * byte is a frame with an `error` object, and no `[DONE]` follows it.
 */
import { withinTime } from '#db/within-time.ts'
import type { ChunkEvent, EndEvent } from '#protocol'
import { EdgeError, toEdgeError } from '../errors.ts'
import { KEEP_ALIVE_MS } from '../limits.ts'
import type { ReplyFormat } from './reply.ts'

export type HostEvents = AsyncGenerator<ChunkEvent | EndEvent, void, void>
type NextEvent = Promise<IteratorResult<ChunkEvent | EndEvent, void>>

export interface EventStreamOptions {
  readonly format: ReplyFormat
  readonly events: HostEvents
  /** Asked for already, so that an early refusal could have its own status. */
  readonly first: NextEvent
  readonly withUsage: boolean
  /** Ends the host's work: the client left. */
  readonly abort: () => void
  /** Tokens were passed on to the client. */
  readonly onDelivered: (tokens: number) => void
  /** Called once, with null when the stream ended well. */
  readonly onEnd: (error: EdgeError | null) => void
}

const encoder = new TextEncoder()
const DONE = 'data: [DONE]\n\n'
const KEEP_ALIVE = ': waiting\n\n'

/** A frame that says nothing. */
export function isKeepAlive(frame: string): boolean {
  return frame === KEEP_ALIVE
}

export function createEventStream(options: EventStreamOptions): ReadableStream<Uint8Array> {
  const { format, events, abort, withUsage } = options
  let next: NextEvent | null = options.first
  let isOver = false
  let undelivered = 0
  const finish = (error: EdgeError | null): void => {
    if (isOver) return
    isOver = true
    options.onEnd(error)
  }
  /** Other chunks say that usage comes later, where the client wants it. */
  const frame = (chunk: object): string => toFrame(withUsage ? { ...chunk, usage: null } : chunk)
  const textOf = (event: ChunkEvent | EndEvent): string => {
    if (event.type === 'end') return (withUsage ? toFrame(format.usage(event)) : '') + DONE
    const text = format.chunk(event).map(frame).join('')
    return event.finish_reason === null ? text : text + frame(format.finish(event))
  }
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        const text = format.start().map(frame).join('')
        if (text !== '') controller.enqueue(encoder.encode(text))
      },
      async pull(controller) {
        try {
          // Also while tokens come that show nothing: all of a tool's call, but for its last.
          const untilMs = Date.now() + KEEP_ALIVE_MS
          for (let text = ''; text === ''; ) {
            next ??= events.next()
            const result = await withinTime(next, Math.max(0, untilMs - Date.now()))
            if (isOver) return
            if (result === null) {
              text = KEEP_ALIVE
            } else {
              next = null
              const event = toLiveEvent(result)
              text = textOf(event)
              if (event.type === 'end') finish(null)
              else undelivered += event.tokens
            }
            if (text === '') continue
            controller.enqueue(encoder.encode(text))
            if (result === null) continue
            options.onDelivered(undelivered)
            undelivered = 0
          }
        } catch (error) {
          if (isOver) return
          const failure = toEdgeError(error)
          finish(failure)
          controller.enqueue(encoder.encode(toFrame(failure.toBody())))
        }
        if (!isOver) return
        controller.close()
        // Reads the host's stream out; nothing that still happens there is news.
        await events.next().catch(() => {})
      },
      cancel() {
        finish(new EdgeError('request_aborted', 'the client left'))
        abort()
        // Nobody reads on: what the host's call holds is let go.
        events.return().catch(() => {})
      },
    },
    // One event ahead would be generated for a client that may be gone.
    { highWaterMark: 0 },
  )
}

function toFrame(value: object): string {
  return `data: ${JSON.stringify(value)}\n\n`
}

export function toLiveEvent(
  result: IteratorResult<ChunkEvent | EndEvent, void>,
): ChunkEvent | EndEvent {
  if (result.done) throw new EdgeError('host_failed', 'the host ended without a result')
  return result.value
}
