/**
 * A TCP proxy in front of one host, with the faults that networks have: it stalls (half-open: both
 * ends stay connected and nothing moves), cuts replies, delays and throttles them, or holds single
 * pieces back as a lost packet's retransmission does. What it lets through stays whole and in
 * order, as TCP keeps it.
 */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Random } from '../../native/test/support/random.ts'

export type Fault =
  | { readonly kind: 'none' }
  | { readonly kind: 'stall' }
  /** A connection is reset when so many bytes of replies have come over it. */
  | { readonly kind: 'cut'; readonly replyBytes: number }
  | { readonly kind: 'delay'; readonly ms: number }
  | { readonly kind: 'throttle'; readonly bytesPerSecond: number }
  /** A piece is lost with this chance, each time that it is sent. */
  | { readonly kind: 'loss'; readonly share: number }

/** Linux's shortest time until a packet is sent again; it doubles with each further loss. */
const RETRANSMIT_MS = 200
const RETRANSMITS_MAX = 6
const NO_FAULT: Fault = { kind: 'none' }

export class FaultyProxy {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #random: Random
  #fault: Fault = NO_FAULT
  #changed = Promise.withResolvers<void>()

  private constructor(targetPort: number, random: Random) {
    this.#random = random
    this.#server = createServer({ allowHalfOpen: true }, (client) => this.#join(client, targetPort))
  }

  static async listen(targetPort: number, random: Random): Promise<FaultyProxy> {
    const proxy = new FaultyProxy(targetPort, random)
    proxy.#server.listen(0, '127.0.0.1')
    await once(proxy.#server, 'listening')
    return proxy
  }

  get url(): string {
    const { port } = this.#server.address() as AddressInfo
    return `http://127.0.0.1:${port}`
  }

  get openConnections(): number {
    return this.#sockets.size / 2
  }

  /** For what moves from now on; what a stall held back moves again. */
  set(fault: Fault): void {
    this.#fault = fault
    this.#changed.resolve()
    this.#changed = Promise.withResolvers()
  }

  heal(): void {
    this.set(NO_FAULT)
  }

  async close(): Promise<void> {
    this.heal()
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
    await once(this.#server, 'close')
  }

  #join(client: Socket, port: number): void {
    const host = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
    for (const [socket, other] of [
      [client, host],
      [host, client],
    ] as const) {
      socket.setNoDelay(true)
      this.#sockets.add(socket)
      socket.on('error', () => other.resetAndDestroy())
      socket.on('close', () => this.#sockets.delete(socket))
    }
    const count = { replyBytes: 0 }
    void this.#pump(client, host, null)
    void this.#pump(host, client, count)
  }

  /** `reply` counts what came from the host; null = the way there. */
  async #pump(from: Socket, to: Socket, reply: { replyBytes: number } | null): Promise<void> {
    try {
      for await (const bytes of from.iterator({
        destroyOnReturn: false,
      }) as AsyncIterable<Buffer>) {
        if (reply !== null) reply.replyBytes += bytes.length
        await this.#hold(bytes.length, reply)
        if (this.#isCut(reply)) {
          from.resetAndDestroy()
          to.resetAndDestroy()
          return
        }
        if (to.destroyed) return
        if (!to.write(bytes)) await Promise.race([once(to, 'drain'), once(to, 'close')])
      }
      to.end()
    } catch {
      // Its own `error` event has told the other side.
    }
  }

  #isCut(reply: { readonly replyBytes: number } | null): boolean {
    const fault = this.#fault
    return fault.kind === 'cut' && reply !== null && reply.replyBytes > fault.replyBytes
  }

  /** As long as a piece is on its way. Replies alone are slow; what stalls, stalls both ways. */
  async #hold(bytes: number, reply: object | null): Promise<void> {
    while (this.#fault.kind === 'stall') await this.#changed.promise
    const fault = this.#fault
    if (fault.kind === 'loss') return this.#resend(fault.share)
    if (reply === null) return
    if (fault.kind === 'delay') await sleep(fault.ms)
    if (fault.kind === 'throttle') await sleep((1000 * bytes) / fault.bytesPerSecond)
  }

  async #resend(share: number): Promise<void> {
    for (let sent = 0; sent < RETRANSMITS_MAX && this.#random.fraction() < share; sent++) {
      await sleep(RETRANSMIT_MS * 2 ** sent)
    }
  }
}
