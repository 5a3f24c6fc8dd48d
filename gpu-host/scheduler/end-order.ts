/** Why a request must end before its time, and how what failed becomes such an order. */
import { errorCodeOf, HostError, toHostError } from '../errors.ts'

export interface EndOrder {
  readonly finish: 'abort' | 'error'
  /** null = nobody is left to be told. */
  readonly error: HostError | null
}

/** What ended a request from outside the loop, in the host's own terms. */
export function toEndOrder(error: unknown): EndOrder {
  if (errorCodeOf(error) === 'invalid_grammar') {
    const message = error instanceof Error ? error.message : 'invalid grammar'
    return {
      finish: 'error',
      error: new HostError('invalid_request', message, { param: 'grammar' }),
    }
  }
  if (errorCodeOf(error) === 'grammars_full') {
    const message = 'the grammars of other requests take what there is for them'
    return { finish: 'error', error: new HostError('queue_full', message, { cause: error }) }
  }
  return {
    finish: 'error',
    error: toHostError(error, 'adapter_load_failed', 'adapter failed to load'),
  }
}
