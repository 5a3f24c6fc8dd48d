/**
 * Adapters that must be refused, each made from a good one for whatever base model is served. Used
 * against the intake and, over HTTP, against the whole system.
 */
import { MALFORMED_CONFIGS } from './malformed-configs.ts'
import { MALFORMED_WEIGHTS } from './malformed-weights.ts'

export interface MalformedAdapter {
  readonly name: string
  /** What the refusal's message must say: file, and field or tensor. */
  readonly expected: RegExp
  /** Writes adapter_config.json and adapter_model.safetensors; `goodDirectory` holds good ones. */
  readonly write: (directory: string, goodDirectory: string) => void
}

export const MALFORMED_ADAPTERS: readonly MalformedAdapter[] = [
  ...MALFORMED_CONFIGS,
  ...MALFORMED_WEIGHTS,
]
