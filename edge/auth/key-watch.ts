/**
 * Ends a request that runs on when its key is revoked: who was let in stays in for a while, not for
 * as long as a model can talk.
 */
import { EdgeError } from '../errors.ts'
import { KEY_WATCH_MS } from '../limits.ts'

export class KeyWatch {
  readonly #timer: ReturnType<typeof setInterval>

  /** @param holds asked now and then. @param revoke called once, with what to tell the client. */
  constructor(holds: () => Promise<boolean>, revoke: (error: EdgeError) => void) {
    this.#timer = setInterval(async () => {
      if (await holds()) return
      this.end()
      revoke(new EdgeError('invalid_api_key', 'The API key was revoked meanwhile.'))
    }, KEY_WATCH_MS)
  }

  /** Idempotent. */
  readonly end = (): void => clearInterval(this.#timer)
}
