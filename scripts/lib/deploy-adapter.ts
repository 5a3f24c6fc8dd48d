/** Uploads a PEFT adapter as the next version of a model: streamed from disk, with progress. */
import { openAsBlob } from 'node:fs'
import { type ApiTarget, callEdge, toPath } from './api-client.ts'
import { type DeployedVersion, deployedVersion } from './edge-replies.ts'
import { formatBytes } from './output.ts'
import type { PeftFiles } from './peft-directory.ts'

/** Smaller uploads are over before anybody wonders. */
const PROGRESS_BYTES_MIN = 16_000_000

export interface DeployRequest {
  readonly tenant: string
  readonly model: string
  readonly files: PeftFiles
  /** Percent of requests that it gets beside the main version; absent = all. */
  readonly canary?: number | undefined
  /** A version of its own, though the main one is of the same bytes. */
  readonly isForced?: boolean
  readonly note: (text: string) => void
  readonly signal: AbortSignal
}

/** Rejects with the edge's reason when the adapter is refused. */
export async function deployAdapter(
  target: ApiTarget,
  request: DeployRequest,
): Promise<DeployedVersion> {
  const { tenant, model, files, canary, isForced = false, note, signal } = request
  const form = new FormData()
  form.set('config', await openAsBlob(files.configPath), 'adapter_config.json')
  form.set('weights', await openAsBlob(files.weightsPath), 'adapter_model.safetensors')
  // A Response is the platform's own multipart encoder: a lazy stream and its boundary.
  const { body, headers } = new Response(form)
  if (body === null) throw new Error('a form has a body')
  const watched = files.bytes < PROGRESS_BYTES_MIN ? body : watchProgress(body, files.bytes, note)
  const stream = { body: watched, contentType: headers.get('content-type') ?? '' }
  const query = new URLSearchParams({
    ...(canary !== undefined && { canary: String(canary) }),
    ...(isForced && { force: 'true' }),
  })
  const versions = toPath('v1', 'tenants', tenant, 'models', model, 'versions')
  const path = query.size === 0 ? versions : `${versions}?${query}`
  return callEdge(target, { method: 'POST', path, stream, signal }, deployedVersion)
}

/** Passes bytes through and notes every tenth of the way. */
function watchProgress(
  body: ReadableStream<Uint8Array>,
  bytesTotal: number,
  note: (text: string) => void,
): ReadableStream<Uint8Array> {
  let bytesSent = 0
  let tenthsShown = 0
  const counter = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      controller.enqueue(chunk)
      bytesSent += chunk.byteLength
      const tenths = Math.min(10, Math.floor((bytesSent / bytesTotal) * 10))
      if (tenths > tenthsShown) note(`  ${tenths * 10}% of ${formatBytes(bytesTotal)}`)
      tenthsShown = tenths
    },
  })
  return body.pipeThrough(counter)
}

/**
 * A line to paste into a shell. `keyText` is what the shell puts in for the key; a model is named
 * only where the endpoint is not its own.
 */
export function toCurlLine(
  endpoint: string,
  keyText: string,
  prompt: string,
  model?: string,
): string {
  const body = JSON.stringify({
    model,
    messages: [{ role: 'user', content: prompt }],
    max_tokens: 80,
    temperature: 0,
  })
  return [
    `curl -s ${endpoint.replace(/\/+$/, '')}/chat/completions`,
    `-H "authorization: Bearer ${keyText}"`,
    "-H 'content-type: application/json'",
    `-d '${body.replaceAll("'", `'\\''`)}'`,
  ].join(' ')
}
