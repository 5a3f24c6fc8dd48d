/**
 * One route as the API reference describes it. Requests are described by the very schemas that the
 * routes parse with; replies by schemas that the tests hold every real reply against
 * (`test/support/reply-check.ts`). Which routes there are is in `operations/`.
 */
import { z } from 'zod'

/**
 * `generate`, `deploy`: an API key with that scope; `key`: any API key. The operator's key may do
 * all of these. `host`: signed by a host of the pool.
 */
export type Caller = 'anyone' | 'key' | 'generate' | 'deploy' | 'operator' | 'host'

export interface OperationBody {
  readonly schema: z.ZodType
  /** Nothing at all is as good as `{}`. */
  readonly isOptional?: boolean
  /** Default: JSON. */
  readonly mediaType?: 'multipart/form-data'
}

export interface OperationReply {
  readonly what: string
  /** null = text that no schema describes. */
  readonly schema: z.ZodType | null
  /** Default: JSON. */
  readonly mediaType?: string
  /** Where a stream was asked for; one frame of it. */
  readonly frame?: z.ZodType
}

export interface Operation {
  readonly method: 'get' | 'post' | 'patch' | 'delete'
  /** As the route table writes it. */
  readonly path: string
  /** Unique. */
  readonly id: string
  readonly group: OperationGroup
  readonly summary: string
  readonly description?: string
  readonly caller: Caller
  readonly query?: z.ZodObject
  readonly headers?: z.ZodObject
  readonly body?: OperationBody
  /** By status; errors are the same everywhere. */
  readonly replies: Readonly<Record<number, OperationReply>>
}

export const GROUPS = {
  Inference: "OpenAI's routes, on the shared endpoint and on each model's own.",
  Models: "A tenant's models: deploys, versions, canaries.",
  Tenants: 'Tenants, their API keys and limits.',
  Usage: 'What was used and what it costs.',
  Invoices: "A tenant's month, from draft to file.",
  Pool: 'Hosts, prices, books and health, for the operator.',
  Internal: 'What hosts tell the edge.',
} as const
export type OperationGroup = keyof typeof GROUPS

/** `{"data": [...]}`. */
export function listOf(item: z.ZodType): z.ZodObject {
  return z.strictObject({ data: z.array(item) })
}

export const ok = (what: string, schema: z.ZodType): OperationReply => ({ what, schema })

export const time = z.iso.datetime().describe('UTC.')
export const count = z.int().min(0)
/** Money and sums that may pass 2⁵³. */
export const wholeText = z.string().regex(/^-?\d+$/)
export const pusd = wholeText.describe('Pico-USD, a whole number as text.')
