/**
 * HTTP by hand, for what no client library would send: bodies that never end, requests that never
 * begin, replies that nobody reads.
 */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

export interface RawReply {
  readonly status: number
  readonly head: string
  readonly body: string
}

export class RawCaller {
  readonly socket: Socket
  readonly #closed: Promise<void>
  #received = ''

  private constructor(socket: Socket) {
    this.socket = socket
    this.#closed = new Promise((resolve) => socket.once('close', () => resolve()))
    socket.on('error', () => {})
    socket.on('data', (bytes) => {
      this.#received += bytes.toString('latin1')
    })
  }

  static async dial(url: string): Promise<RawCaller> {
    const { hostname, port } = new URL(url)
    const socket = connect(Number(port), hostname)
    const caller = new RawCaller(socket)
    await once(socket, 'connect')
    return caller
  }

  get received(): string {
    return this.#received
  }

  /** Resolves when the server, or `close`, has ended the connection. */
  get closed(): Promise<void> {
    return this.#closed
  }

  send(text: string | Uint8Array): void {
    if (!this.socket.destroyed) this.socket.write(text)
  }

  /** Request line and headers; `length` null = the body comes in chunks. */
  begin(
    method: string,
    path: string,
    headers: Readonly<Record<string, string>>,
    length: number | null = 0,
  ): void {
    const framing =
      length === null ? { 'transfer-encoding': 'chunked' } : { 'content-length': String(length) }
    const lines = Object.entries({ host: 'test', ...framing, ...headers })
      .map(([name, value]) => `${name}: ${value}\r\n`)
      .join('')
    this.send(`${method} ${path} HTTP/1.1\r\n${lines}\r\n`)
  }

  /** One chunk of a body that has no length. */
  chunk(bytes: Uint8Array): void {
    this.send(`${bytes.length.toString(16)}\r\n`)
    this.send(bytes)
    this.send('\r\n')
  }

  /** The first reply, when its head and the length it names are there. */
  async reply(): Promise<RawReply> {
    for (;;) {
      const end = this.#received.indexOf('\r\n\r\n')
      if (end !== -1) {
        const head = this.#received.slice(0, end)
        const body = bodyOf(head, this.#received.slice(end + 4))
        if (body !== null) return { status: Number(head.split(' ')[1]), head, body }
      }
      if (this.socket.destroyed) throw new Error(`closed after "${this.#received.slice(0, 200)}"`)
      await Promise.race([once(this.socket, 'data'), this.#closed])
    }
  }

  end(): void {
    this.socket.destroy()
  }
}

/** null = there is more to come. */
function bodyOf(head: string, received: string): string | null {
  if (!/^transfer-encoding: chunked$/im.test(head)) {
    const length = Number(/^content-length: (\d+)$/im.exec(head)?.[1] ?? 0)
    return received.length >= length ? received : null
  }
  let body = ''
  for (let rest = received; ; ) {
    const line = rest.indexOf('\r\n')
    if (line === -1) return null
    const length = Number.parseInt(rest.slice(0, line), 16)
    if (length === 0) return body
    if (rest.length < line + 2 + length + 2) return null
    body += rest.slice(line + 2, line + 2 + length)
    rest = rest.slice(line + 2 + length + 2)
  }
}
