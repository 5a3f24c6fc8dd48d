/**
 * The client of one request, as the work for it sees it: a signal of its own, which tells that the
 * client left, that nobody needs the work any more, or that the client may not have it any more.
 * Let go of when the reply is over: Node's Request keeps the signal that it was made with, and all
 * that its listeners reach, for as long as it lives itself. A listener that stays and reaches the
 * request keeps it for ever.
 */
import type { EdgeError } from './errors.ts'

export class FollowedClient {
  readonly #client: AbortSignal
  readonly #work = new AbortController()

  constructor(client: AbortSignal) {
    this.#client = client
    if (client.aborted) this.abort()
    else client.addEventListener('abort', this.abort, { once: true })
  }

  get signal(): AbortSignal {
    return this.#work.signal
  }

  readonly abort = (): void => this.#work.abort()

  /** As if the client had left; `error` is what it is told. */
  readonly dismiss = (error: EdgeError): void => this.#work.abort(error)

  /** Idempotent. */
  readonly end = (): void => this.#client.removeEventListener('abort', this.abort)
}
