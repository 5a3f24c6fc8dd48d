/**
 * POST adapters: a multipart upload of exactly two files, `config` and `weights`, streamed to a
 * directory of its own under byte caps, and handed to the intake. File names of the client are
 * never used.
 */
import { createWriteStream } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { Busboy, type BusboyFileStream } from '@fastify/busboy'
import type { Clock } from './clock.ts'
import type { ServerLimits } from './config.ts'
import { errorCodeOf, HostError, type HostErrorCode } from './errors.ts'
import type { AdapterReceipt } from './protocol.ts'
import type { UploadPlaces } from './upload-places.ts'
import { PaceWatch } from './wire/pace.ts'

/**
 * Checks, converts and stores an adapter. Rejects with `adapter_invalid`, naming file and field.
 */
export interface AdapterIntake {
  install(files: {
    readonly configPath: string
    readonly weightsPath: string
  }): Promise<AdapterReceipt>
}

export interface UploadDeps {
  readonly intake: AdapterIntake
  readonly places: UploadPlaces
  readonly clock: Clock
  readonly limits: ServerLimits
}

const PARTS = ['config', 'weights'] as const
type PartName = (typeof PARTS)[number]

export class AdapterUpload {
  readonly #deps: UploadDeps

  constructor(deps: UploadDeps) {
    this.#deps = deps
  }

  /** In the name of a tenant; null = the pool's own. */
  handle(request: IncomingMessage, tenantId: string | null): Promise<AdapterReceipt> {
    const { intake, places } = this.#deps
    return places.run(tenantId, async (directory) => {
      await this.#receive(request, directory)
      return intake.install({
        configPath: join(directory, 'config'),
        weightsPath: join(directory, 'weights'),
      })
    })
  }

  async #receive(request: IncomingMessage, staging: string): Promise<void> {
    const { clock, limits } = this.#deps
    const busboy = createParser(request, limits)
    const streams: BusboyFileStream[] = []
    const written: Promise<void>[] = []
    const seen = new Set<string>()
    const received = Promise.withResolvers<void>()
    const refuse = (code: HostErrorCode, message: string, param: string): void =>
      received.reject(new HostError(code, message, { param: param.slice(0, 64) }))
    busboy.on('file', (name, stream) => {
      // The pipeline that saves the part reports its errors; without a listener they would throw.
      stream.on('error', () => {})
      streams.push(stream)
      if (!isPartName(name) || seen.has(name)) {
        refuse('invalid_request', 'unexpected file in the upload', name)
        return
      }
      seen.add(name)
      const saved = savePart(stream, name, join(staging, name), limits)
      saved.catch(received.reject)
      written.push(saved)
    })
    busboy.on('field', (name) => refuse('invalid_request', 'only files are accepted', name))
    busboy.on('partsLimit', () => refuse('invalid_request', 'too many parts', 'body'))
    busboy.on('error', received.reject)
    busboy.on('finish', received.resolve)
    request.on('close', () => {
      if (!request.complete) refuse('request_aborted', 'the client left', 'body')
    })
    const tooSlow = (): void =>
      refuse('request_timeout', 'the upload did not arrive in time', 'body')
    const cancel = clock.setTimer(limits.uploadTimeoutMs, tooSlow)
    const pace = new PaceWatch({
      pace: limits.uploadPace,
      nowMs: () => clock.nowUs() / 1000,
      setTimer: clock.setTimer,
      onSlow: tooSlow,
    })
    request.on('data', (chunk: Buffer) => pace.moved(chunk.length))
    request.pipe(busboy)
    try {
      await received.promise
      await Promise.all(written)
    } catch (error) {
      // Not `pipeline`: it would destroy the socket, and the refusal with it.
      request.unpipe(busboy)
      for (const stream of streams) stream.destroy(new Error('upload refused'))
      await Promise.allSettled(written)
      throw toUploadError(error)
    } finally {
      cancel()
      pace.end()
    }
    for (const name of PARTS) {
      if (seen.has(name)) continue
      throw new HostError('invalid_request', `the upload lacks the file ${name}`, { param: name })
    }
  }
}

function createParser(request: IncomingMessage, limits: ServerLimits) {
  const contentType = request.headers['content-type']
  if (contentType === undefined || !contentType.startsWith('multipart/form-data')) {
    throw new HostError('invalid_request', 'the body must be multipart/form-data')
  }
  try {
    return new Busboy({
      headers: { ...request.headers, 'content-type': contentType },
      // A part without a file name is a file here all the same: it is named by its field.
      isPartAFile: () => true,
      limits: {
        fieldNameSize: 64,
        fields: 0,
        // One more than is taken, so that the first stray one is seen, not skipped in silence.
        files: PARTS.length + 1,
        parts: PARTS.length + 1,
        headerPairs: 16,
        headerSize: 4096,
        fileSize: Math.max(limits.adapterConfigBytesMax, limits.adapterWeightsBytesMax),
      },
    })
  } catch (error) {
    throw new HostError('invalid_request', 'the multipart header is not valid', { cause: error })
  }
}

async function savePart(
  stream: BusboyFileStream,
  name: PartName,
  path: string,
  limits: ServerLimits,
): Promise<void> {
  const bytesMax = name === 'config' ? limits.adapterConfigBytesMax : limits.adapterWeightsBytesMax
  const tooLarge = (): HostError =>
    new HostError('payload_too_large', `${name} may have at most ${bytesMax} bytes`, {
      param: name,
    })
  async function* capped(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    let bytes = 0
    for await (const chunk of source) {
      bytes += chunk.length
      if (bytes > bytesMax) throw tooLarge()
      yield chunk
    }
  }
  await pipeline(stream, capped, createWriteStream(path, { flags: 'wx', mode: 0o600 }))
  if (stream.truncated) throw tooLarge()
}

function isPartName(name: string): name is PartName {
  return PARTS.some((part) => part === name)
}

/** What the parser says of the body is the client's fault; a full disk is not. */
function toUploadError(error: unknown): unknown {
  if (error instanceof HostError || errorCodeOf(error) === 'ENOSPC') return error
  return new HostError('invalid_request', 'the upload is not valid multipart', { cause: error })
}
