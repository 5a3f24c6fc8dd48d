/** Connections to the servers of this process, and what waits on them, as Node counts it. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { Socket } from 'node:net'

const CHANNEL = 'net.server.socket'
/** A text that Node has not encoded yet counts by its characters. */
const BYTES_PER_CHARACTER = 3

export class ServerSockets {
  readonly #open = new Set<Socket>()
  #bytesMax = 0
  readonly #timer = setInterval(() => this.#look(), 20)

  constructor() {
    subscribe(CHANNEL, this.#take)
  }

  /** Of those that came since this was made. */
  get open(): number {
    return this.#open.size
  }

  /** The most that any connection had waiting for its client. */
  get bytesMax(): number {
    this.#look()
    return this.#bytesMax
  }

  end(): void {
    clearInterval(this.#timer)
    unsubscribe(CHANNEL, this.#take)
  }

  readonly #take = (message: unknown): void => {
    const socket = typeof message === 'object' && message !== null && Reflect.get(message, 'socket')
    if (!(socket instanceof Socket)) return
    this.#open.add(socket)
    socket.once('close', () => this.#open.delete(socket))
  }

  #look(): void {
    for (const { writableLength } of this.#open) {
      this.#bytesMax = Math.max(this.#bytesMax, writableLength * BYTES_PER_CHARACTER)
    }
  }
}
