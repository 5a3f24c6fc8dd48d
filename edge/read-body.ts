/**
 * A request's body → bytes → typed value, within a byte cap. What is too large is refused as soon
 * as it shows, by its length header or while it arrives.
 */
import type { z } from 'zod'
import { EdgeError } from './errors.ts'
import { inPlainWords } from './plain-words.ts'

/**
 * `onBytes` hears of each piece as it arrives. Throws `payload_too_large`, or `request_aborted` when
 * the client leaves half-way.
 */
export async function readBytes(
  request: Request,
  bytesMax: number,
  onBytes?: (bytes: Uint8Array) => void,
): Promise<Uint8Array> {
  const tooLarge = (): EdgeError =>
    new EdgeError('payload_too_large', `the body may have at most ${bytesMax} bytes`)
  if (Number(request.headers.get('content-length') ?? 0) > bytesMax) throw tooLarge()
  if (request.body === null) return new Uint8Array()
  const chunks: Uint8Array[] = []
  let length = 0
  try {
    for await (const chunk of request.body) {
      length += chunk.byteLength
      if (length > bytesMax) throw tooLarge()
      chunks.push(chunk)
      onBytes?.(chunk)
    }
  } catch (error) {
    if (error instanceof EdgeError) throw error
    throw new EdgeError('request_aborted', 'the body did not arrive whole', { cause: error })
  }
  const [only] = chunks
  return chunks.length === 1 && only !== undefined ? only : concat(chunks, length)
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

/** Throws `invalid_request` when it is not JSON. */
export function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(bytes))
  } catch (error) {
    throw new EdgeError('invalid_request', 'the body is not valid JSON', { cause: error })
  }
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
