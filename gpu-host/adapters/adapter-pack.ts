/**
 * The pack: one file that holds an adapter in exactly the layout a slot has, so that filling a slot
 * is ONE contiguous copy. Made once, at deploy, from a PEFT adapter; immutable; named by digest.
 *
 * File: magic `NZPACK01` (8 bytes) · u32 LE length of the manifest · manifest (JSON, UTF-8) · zeros
 * to the next multiple of PACK_PAYLOAD_ALIGN · payload (`payload_bytes`). In the file the manifest
 * has one field more, `seal`: the hex SHA-256 of the manifest without it (see pack-file.ts).
 *
 * Payload: the modules of the manifest in order (layer, then target in TARGET_MODULES' order), each
 * block at a multiple of PACK_BLOCK_ALIGN:
 *   A   F16 [rank, n_in]   row-major: rank rows of n_in values   (PEFT lora_A.weight)
 *   Bt  F16 [rank, n_out]  row-major: rank rows of n_out values  (PEFT lora_B.weight transposed)
 * so that y[n_out] += scale · Σ_r Bt[r][:] · (A[r] · x). `scale` stays a number of its own
 * (alpha/rank, or alpha/√rank with rsLoRA), so weights are rounded once, to F16, and not twice.
 * Rows of q and k in B are permuted as GGUF permutes those of Wq and Wk (llama family only).
 * Modules an adapter does not touch are absent and cost nothing.
 */
import { z } from 'zod'
import { adapterDigest } from '../protocol.ts'

export const PACK_MAGIC = 'NZPACK01'
export const PACK_PAYLOAD_ALIGN = 4096
export const PACK_BLOCK_ALIGN = 64
export const PACK_MANIFEST_BYTES_MAX = 4 * 1024 * 1024

/** Linear layers an adapter may change, in slot order; names are GGUF's. */
export const TARGET_MODULES = [
  'attn_q',
  'attn_k',
  'attn_v',
  'attn_output',
  'ffn_gate',
  'ffn_up',
  'ffn_down',
] as const
export type TargetModule = (typeof TARGET_MODULES)[number]

export const packModule = z.object({
  layer: z.int().min(0),
  target: z.enum(TARGET_MODULES),
  n_in: z.int().min(1),
  n_out: z.int().min(1),
  rank: z.int().min(1),
  /** Byte offsets into the payload. */
  a_offset: z.int().min(0),
  b_offset: z.int().min(0),
  scale: z.number(),
})
export type PackModule = z.infer<typeof packModule>

export const packManifest = z.object({
  format: z.literal(1),
  digest: adapterDigest,
  base_model: z.string(),
  base_digest: z.string(),
  /** Largest rank of any module. */
  rank: z.int().min(1),
  alpha: z.number(),
  use_rslora: z.boolean(),
  target_modules: z.array(z.enum(TARGET_MODULES)),
  modules: z.array(packModule).min(1),
  payload_bytes: z.int().min(1),
  /** Lower-case hex SHA-256 of the payload. */
  payload_sha256: z.string().regex(/^[0-9a-f]{64}$/),
})
export type PackManifest = z.infer<typeof packManifest>
