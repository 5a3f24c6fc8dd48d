/**
 * One server-sent event stream: frames with back-pressure, comments while there is nothing to say.
 * `write` resolves when the socket takes more, or at once when the client is gone.
 */
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import type { Clock } from './clock.ts'

export class EventStream {
  readonly #response: ServerResponse
  readonly #clock: Clock
  readonly #keepAliveMs: number
  #cancelKeepAlive: () => void = () => {}

  constructor(response: ServerResponse, clock: Clock, keepAliveMs: number) {
    this.#response = response
    this.#clock = clock
    this.#keepAliveMs = keepAliveMs
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
    this.#cancelKeepAlive()
    if (this.#response.destroyed) return
    const hasRoom = this.#response.write(`data: ${JSON.stringify(data)}\n\n`)
    if (!hasRoom && !this.#response.destroyed) {
      // A client that leaves while the socket is full never drains it: `close` ends the wait.
      const gone = new AbortController()
      const leave = (): void => gone.abort()
      this.#response.once('close', leave)
      await once(this.#response, 'drain', { signal: gone.signal }).catch(() => {})
      this.#response.off('close', leave)
    }
    this.#armKeepAlive()
  }

  close(): void {
    this.#cancelKeepAlive()
    this.#response.end()
  }

  #armKeepAlive(): void {
    this.#cancelKeepAlive = this.#clock.setTimer(this.#keepAliveMs, () => {
      if (this.#response.writableEnded || this.#response.destroyed) return
      if (this.#response.writableLength === 0) this.#response.write(': waiting\n\n')
      this.#armKeepAlive()
    })
  }
}
