/**
 * A request's body → bytes → typed value, within a byte cap, a pace and a depth. What is too large
 * is refused as soon as it shows, by its length header or while it arrives; what trickles is given
 * up; what nests too deep is not parsed.
 */
import type { z } from 'zod'
import { isTooDeep, JSON_DEPTH_MAX } from '#wire/json-depth.ts'
import { PaceWatch } from '#wire/pace.ts'
import { EdgeError } from './errors.ts'
import { BODY_AT_ONCE_BYTES_MAX, BODY_PACE } from './limits.ts'
import { inPlainWords } from './plain-words.ts'
import { findProtoMember } from './proto-member.ts'

/**
 * `onBytes` hears of each piece as it arrives. Throws `payload_too_large`, `request_timeout`, or
 * `request_aborted` when the client leaves half-way.
 */
export async function readBytes(
  request: Request,
  bytesMax: number,
  onBytes?: (bytes: Uint8Array) => void,
): Promise<Uint8Array> {
  const tooLarge = (): EdgeError =>
    new EdgeError('payload_too_large', `the body may have at most ${bytesMax} bytes`)
  const stated = Number(request.headers.get('content-length') ?? Number.NaN)
  if (stated > bytesMax) throw tooLarge()
  const slow = Promise.withResolvers<never>()
  slow.promise.catch(() => {})
  const pace = new PaceWatch({ ...TIMERS, pace: BODY_PACE, onSlow: () => slow.reject(tooSlow()) })
  try {
    if (stated <= BODY_AT_ONCE_BYTES_MAX) {
      const bytes = new Uint8Array(await Promise.race([request.arrayBuffer(), slow.promise]))
      onBytes?.(bytes)
      return bytes
    }
    return await readPieces(request, slow.promise, (piece, length) => {
      pace.moved(piece.byteLength)
      if (length > bytesMax) throw tooLarge()
      onBytes?.(piece)
    })
  } catch (error) {
    if (error instanceof EdgeError) throw error
    throw new EdgeError('request_aborted', 'the body did not arrive whole', { cause: error })
  } finally {
    pace.end()
  }
}

/** Until the end, or until `onPiece` or `slow` throws. `length`: of all pieces so far. */
async function readPieces(
  request: Request,
  slow: Promise<never>,
  onPiece: (piece: Uint8Array, length: number) => void,
): Promise<Uint8Array> {
  if (request.body === null) return new Uint8Array()
  const reader = request.body.getReader()
  const chunks: Uint8Array[] = []
  let length = 0
  try {
    for (;;) {
      const { done, value } = await Promise.race([reader.read(), slow])
      if (done) break
      length += value.byteLength
      onPiece(value, length)
      chunks.push(value)
    }
  } catch (error) {
    reader.cancel(error).catch(() => {})
    throw error
  }
  const [only] = chunks
  return chunks.length === 1 && only !== undefined ? only : concat(chunks, length)
}

const TIMERS = {
  nowMs: () => performance.now(),
  setTimer(ms: number, look: () => void): () => void {
    const timer = setTimeout(look, ms)
    return () => clearTimeout(timer)
  },
}

function tooSlow(): EdgeError {
  return new EdgeError('request_timeout', 'the body did not arrive in time')
}

function concat(chunks: readonly Uint8Array[], length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  let offset = 0
  for (const chunk of chunks) {
    bytes.set(chunk, offset)
    offset += chunk.byteLength
  }
  return bytes
}

/** Throws `invalid_request` when it is not JSON, nests too deep, or has a member `__proto__`. */
export function parseJson(bytes: Uint8Array): unknown {
  if (isTooDeep(bytes)) {
    const message = `the body is nested more than ${JSON_DEPTH_MAX} arrays and objects deep`
    throw new EdgeError('invalid_request', message)
  }
  let text: string
  let value: unknown
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(bytes)
    value = JSON.parse(text)
  } catch (error) {
    throw new EdgeError('invalid_request', 'the body is not valid JSON', { cause: error })
  }
  const param = findProtoMember(text, value)
  if (param === null) return value
  throw new EdgeError('invalid_request', 'no member may be called "__proto__"', { param })
}

/** Throws `invalid_request`, naming the first field at fault. */
export function parseValue<T extends z.ZodType>(schema: T, value: unknown): z.infer<T> {
  const parsed = schema.safeParse(value, { error: (issue) => inPlainWords(issue, value) })
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const message = issue?.message ?? 'is not valid'
  if (issue?.code === 'unrecognized_keys') {
    const param = [...issue.path, issue.keys[0]].join('.')
    throw new EdgeError('invalid_request', message, { param })
  }
  const param = issue?.path.join('.') || null
  throw new EdgeError('invalid_request', `${param ?? 'body'}: ${message}`, { param })
}

export async function readJson<T extends z.ZodType>(
  request: Request,
  schema: T,
  bytesMax: number,
): Promise<z.infer<T>> {
  return parseValue(schema, parseJson(await readBytes(request, bytesMax)))
}
