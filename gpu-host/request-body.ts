/**
 * A request body → bytes → typed value, within a byte cap and a time limit. Too large or too slow
 * is refused as soon as it shows, not after it was read.
 */
import type { IncomingMessage } from 'node:http'
import type { z } from 'zod'
import type { Clock } from './clock.ts'
import { HostError } from './errors.ts'
import { isTooDeep, JSON_DEPTH_MAX } from './wire/json-depth.ts'

export interface BodyLimits {
  readonly bytesMax: number
  readonly timeoutMs: number
}

/** Throws `payload_too_large`, `request_timeout` or `request_aborted`. */
export async function readBody(
  request: IncomingMessage,
  clock: Clock,
  { bytesMax, timeoutMs }: BodyLimits,
): Promise<Buffer> {
  const tooLarge = (): HostError =>
    new HostError('payload_too_large', `the body may have at most ${bytesMax} bytes`)
  if (Number(request.headers['content-length'] ?? 0) > bytesMax) throw tooLarge()
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let bytes = 0
    const finish = (settle: () => void): void => {
      cancel()
      request.off('data', onData).off('end', onEnd).off('close', onClose).off('error', onClose)
      settle()
    }
    const fail = (error: HostError): void => finish(() => reject(error))
    const onData = (chunk: Buffer): void => {
      bytes += chunk.length
      if (bytes > bytesMax) fail(tooLarge())
      else chunks.push(chunk)
    }
    const onEnd = (): void => finish(() => resolve(Buffer.concat(chunks)))
    const onClose = (): void => fail(new HostError('request_aborted', 'the client left'))
    const cancel = clock.setTimer(timeoutMs, () => {
      fail(new HostError('request_timeout', 'the body did not arrive in time'))
    })
    request.on('data', onData).on('end', onEnd).on('close', onClose).on('error', onClose)
  })
}

/** Throws `invalid_request`, naming the first field at fault. */
export function parseJsonBody<T extends z.ZodType>(schema: T, body: Buffer): z.infer<T> {
  if (isTooDeep(body)) {
    const message = `the body is nested more than ${JSON_DEPTH_MAX} arrays and objects deep`
    throw new HostError('invalid_request', message)
  }
  let value: unknown
  try {
    value = JSON.parse(body.toString('utf8'))
  } catch (error) {
    throw new HostError('invalid_request', 'the body is not JSON', { cause: error })
  }
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const param = issue?.path.join('.') ?? ''
  throw new HostError('invalid_request', `${param || 'body'}: ${issue?.message ?? 'is wrong'}`, {
    param,
  })
}
