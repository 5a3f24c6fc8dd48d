/** Small packs whose payload tells which adapter they are. */
import { createHash } from 'node:crypto'
import type { AdapterImage } from '../../../engine.ts'
import { VECTOR_BASE } from './vectors.ts'

export function digestOf(name: string): string {
  return `sha256:${createHash('sha256').update(name).digest('hex')}`
}

export function createImage(name: string, payloadBytes = 256, rank = 1): AdapterImage {
  const payload = new Uint8Array(payloadBytes)
  payload.set(Buffer.from(name).subarray(0, payloadBytes))
  return {
    payload,
    manifest: {
      format: 1,
      digest: digestOf(name),
      base_model: VECTOR_BASE.baseModel,
      base_digest: VECTOR_BASE.baseDigest,
      rank,
      alpha: 1,
      use_rslora: false,
      target_modules: ['attn_q'],
      modules: [
        {
          layer: 0,
          target: 'attn_q',
          n_in: 32,
          n_out: 32,
          rank,
          a_offset: 0,
          b_offset: 64,
          scale: 1,
        },
      ],
      payload_bytes: payloadBytes,
      payload_sha256: createHash('sha256').update(payload).digest('hex'),
    },
  }
}
