/** Waits for shared work without owning it: an abort ends the wait, never the work. */
import { HostError } from '../errors.ts'

/** Rejects with `request_aborted` as soon as the signal does. */
export function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(requestAborted())
    if (signal.aborted) abort()
    signal.addEventListener('abort', abort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}

export function requestAborted(): HostError {
  return new HostError('request_aborted', 'nobody waits for the adapter any more')
}
