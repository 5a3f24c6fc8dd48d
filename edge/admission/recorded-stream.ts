/**
 * A body on its way to the client, at the client's pace, and remembered as it goes, so that it can
 * be sent again. What is too long is passed on and not remembered.
 */
export interface StreamRecording {
  /** null = longer than the bound. */
  readonly text: string | null
}

/**
 * `onEnd` runs before the client sees the end, and is waited for; it is not called when the client
 * leaves.
 */
export function recordStream(
  body: ReadableStream<Uint8Array>,
  options: {
    readonly bytesMax: number
    /** Not worth remembering: comments that keep a connection open. */
    readonly isNoise: (text: string) => boolean
    readonly onEnd: (recording: StreamRecording) => Promise<void>
  },
): ReadableStream<Uint8Array> {
  const { bytesMax, isNoise, onEnd } = options
  const reader = body.getReader()
  const decoder = new TextDecoder()
  let text: string | null = ''
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await reader.read()
        if (done) {
          await onEnd({ text })
          controller.close()
          return
        }
        const piece = decoder.decode(value, { stream: true })
        if (text !== null && !isNoise(piece)) text += piece
        if (text !== null && text.length > bytesMax) text = null
        controller.enqueue(value)
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  )
}
