/**
 * Uploads a PEFT adapter as the next version of a model: straight to the pool's store where that
 * takes files, else through the edge, streamed from disk.
 */
import { openAsBlob } from 'node:fs'
import { type ApiTarget, callEdge, toPath } from './api-client.ts'
import { uploadDirectly } from './direct-upload.ts'
import { type DeployedVersion, deployedVersion } from './edge-replies.ts'
import type { PeftFiles } from './peft-directory.ts'
import type { StartProgress } from './upload-progress.ts'

export interface DeployRequest {
  readonly tenant: string
  readonly model: string
  readonly files: PeftFiles
  /** Percent of requests that it gets beside the main version; absent = all. */
  readonly canary?: number | undefined
  /** A version of its own, though the main one is of the same bytes. */
  readonly isForced?: boolean
  readonly progress: StartProgress
  /** When all is sent and the pool is at work; returns what ends it. Absent = nobody watches. */
  readonly onSent?: (() => () => void) | undefined
  readonly signal: AbortSignal
}

/** Rejects with the edge's reason when the adapter is refused. */
export async function deployAdapter(
  target: ApiTarget,
  request: DeployRequest,
): Promise<DeployedVersion> {
  const { canary, isForced = false } = request
  const wish = new URLSearchParams({
    ...(canary !== undefined && { canary: String(canary) }),
    ...(isForced && { force: 'true' }),
  })
  const query = wish.size === 0 ? '' : `?${wish}`
  const direct = await uploadDirectly(target, { ...request, query })
  return direct ?? uploadThroughEdge(target, request, query)
}

async function uploadThroughEdge(
  target: ApiTarget,
  { tenant, model, files, progress: start, onSent, signal }: DeployRequest,
  query: string,
): Promise<DeployedVersion> {
  const form = new FormData()
  form.set('config', await openAsBlob(files.configPath), 'adapter_config.json')
  form.set('weights', await openAsBlob(files.weightsPath), 'adapter_model.safetensors')
  // A Response is the platform's own multipart encoder: a lazy stream and its boundary.
  const { body, headers } = new Response(form)
  if (body === null) throw new Error('a form has a body')
  const progress = start(files.bytes)
  let endWait = (): void => {}
  const counter = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      controller.enqueue(chunk)
      progress.add(chunk.byteLength)
    },
    flush() {
      progress.end()
      endWait = onSent?.() ?? endWait
    },
  })
  const stream = {
    body: body.pipeThrough(counter),
    contentType: headers.get('content-type') ?? '',
  }
  const path = toPath('v1', 'tenants', tenant, 'models', model, 'versions') + query
  try {
    return await callEdge(target, { method: 'POST', path, stream, signal }, deployedVersion)
  } finally {
    progress.end()
    endWait()
  }
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
