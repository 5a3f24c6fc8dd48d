/**
 * One server-sent event stream: frames with back-pressure, comments while there is nothing to say.
 * `write` resolves when the operating system has the whole frame, so never more than one waits in
 * this process; or at once when the client is gone. A client that takes nothing for too long is
 * cut.
 */
import type { ServerResponse } from 'node:http'
import type { Clock } from './clock.ts'

export interface EventStreamLimits {
  readonly keepAliveMs: number
  /** Longest time that one frame may wait for its client. */
  readonly writeTimeoutMs: number
}

export class EventStream {
  readonly #response: ServerResponse
  readonly #clock: Clock
  readonly #limits: EventStreamLimits
  #cancelTimer: () => void = () => {}

  constructor(response: ServerResponse, clock: Clock, limits: EventStreamLimits) {
    this.#response = response
    this.#clock = clock
    this.#limits = limits
  }

  open(): void {
    this.#response.writeHead(200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
    })
    this.#response.flushHeaders()
    this.#armKeepAlive()
  }

  async write(data: unknown): Promise<void> {
    const response = this.#response
    this.#cancelTimer()
    if (response.destroyed) return
    this.#cancelTimer = this.#clock.setTimer(this.#limits.writeTimeoutMs, () => response.destroy())
    await new Promise<void>((resolve) => {
      const settle = (): void => {
        response.off('close', settle)
        resolve()
      }
      // A write that its client left unfinished may never be called back: `close` ends the wait.
      response.on('close', settle)
      response.write(`data: ${JSON.stringify(data)}\n\n`, settle)
    })
    this.#armKeepAlive()
  }

  close(): void {
    this.#cancelTimer()
    this.#response.end()
  }

  #armKeepAlive(): void {
    this.#cancelTimer()
    this.#cancelTimer = this.#clock.setTimer(this.#limits.keepAliveMs, () => {
      if (this.#response.writableEnded || this.#response.destroyed) return
      if (this.#response.writableLength === 0) this.#response.write(': waiting\n\n')
      this.#armKeepAlive()
    })
  }
}
