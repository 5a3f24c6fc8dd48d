/** What a call to a vLLM server came to, when it did not come to what was asked. */
import { HostError } from '../errors.ts'

/**
 * `unreachable`: no answer, or one that broke off. `refused`: the call itself is at fault (4xx).
 * `unknown_model`: the server has no model of this name (any more). `failed`: its own fault (5xx).
 */
export type VllmFailure = 'unreachable' | 'refused' | 'unknown_model' | 'failed'

export class VllmError extends Error {
  override readonly name = 'VllmError'
  readonly failure: VllmFailure

  constructor(failure: VllmFailure, message: string, options: { readonly cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.failure = failure
  }
}

/** The server is of no use at the moment: another host, or this one later, may answer. */
export function serverFailed(cause: unknown): HostError {
  return new HostError('engine_failed', 'the vLLM server of this host failed', { cause })
}
