/**
 * The API reference as an OpenAPI 3.1 document, made of `operations/`. A test fails when the route
 * table has a route that is not in it, or it one that is not there.
 */
import { z } from 'zod'
import { errorReply } from '../openai/reply-schemas.ts'
import { type Caller, GROUPS, type Operation, type OperationReply } from './operation.ts'
import { BILLING_OPERATIONS } from './operations/billing.ts'
import { INFERENCE_OPERATIONS } from './operations/inference.ts'
import { MODEL_OPERATIONS } from './operations/models.ts'
import { POOL_OPERATIONS } from './operations/pool.ts'
import { POOL_REPORT_OPERATIONS } from './operations/pool-reports.ts'
import { TENANT_OPERATIONS } from './operations/tenants.ts'

export const OPERATIONS: readonly Operation[] = [
  ...INFERENCE_OPERATIONS,
  ...MODEL_OPERATIONS,
  ...TENANT_OPERATIONS,
  ...BILLING_OPERATIONS,
  ...POOL_OPERATIONS,
  ...POOL_REPORT_OPERATIONS,
]

/** Of the API, not of a release of the edge. */
const API_VERSION = '1.0.0'

type Json = Readonly<Record<string, unknown>>

export interface ApiOperation {
  readonly operationId: string
  readonly tags: readonly string[]
  readonly summary: string
  readonly description: string
  readonly parameters: readonly ApiParameter[]
  readonly requestBody?: Json
  readonly responses: Readonly<Record<string, Json>>
  readonly security: readonly Json[]
}

export interface ApiParameter {
  readonly name: string
  readonly in: 'path' | 'query' | 'header'
  readonly required: boolean
  readonly description?: string
  readonly schema: Json
}

export interface ApiDocument {
  readonly openapi: '3.1.0'
  readonly info: { readonly title: string; readonly version: string; readonly description: string }
  readonly tags: readonly { readonly name: string; readonly description: string }[]
  /** Path → method → operation. */
  readonly paths: Readonly<Record<string, Readonly<Record<string, ApiOperation>>>>
  readonly components: Json
}

const PATH_PARAMETERS: Readonly<Record<string, string>> = {
  tenant: "A tenant's name or id.",
  model: "A model's name.",
  key: "An API key's id.",
  invoice: 'An id (inv_…) or a month (2026-11).',
  host: "A host's id, or a name that is no other's.",
  id: 'As the list of models has it; <model>@<version> is the same row.',
}

const CALLERS: Readonly<Record<Caller, string>> = {
  anyone: 'Needs no key.',
  key: 'Any API key.',
  generate: 'An API key with the scope `generate`.',
  deploy: "The tenant's own API key with the scope `deploy`, or the operator's.",
  operator: "The operator's key alone.",
  host: 'A host of the pool, which signs its calls.',
}

const FAILURES = {
  '4XX': { $ref: '#/components/responses/Refused' },
  '5XX': { $ref: '#/components/responses/Failed' },
} as const

/** The same at each call. */
export function createApiDocument(): ApiDocument {
  const paths: Record<string, Record<string, ApiOperation>> = {}
  for (const operation of OPERATIONS) {
    const path = toOpenapiPath(operation.path)
    paths[path] = { ...paths[path], [operation.method]: toApiOperation(operation) }
  }
  const failure = (description: string): Json => ({
    description,
    content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
  })
  return {
    openapi: '3.1.0',
    info: {
      title: 'Nozzle',
      version: API_VERSION,
      description:
        'Serves many fine-tuned models from a pool of always-warm hosts. Every reply has the ' +
        'header `x-request-id`; every failure is the object `Error`.',
    },
    tags: Object.entries(GROUPS).map(([name, description]) => ({ name, description })),
    paths,
    components: {
      securitySchemes: {
        key: { type: 'http', scheme: 'bearer', description: 'An API key, or the operator’s.' },
        host: { type: 'http', scheme: 'bearer', description: 'A grant that a host signed.' },
      },
      schemas: { Error: toJsonSchema(errorReply, 'output') },
      responses: {
        Refused: failure('Refused; `param` names the field at fault.'),
        Failed: failure('Not possible at the moment; SDKs try again.'),
      },
    },
  }
}

/** `/v1/tenants/:tenant` → `/v1/tenants/{tenant}`. */
export function toOpenapiPath(path: string): string {
  return path.replaceAll(/:([a-z]+)(\{[^}]*\})?/g, '{$1}')
}

function toApiOperation(operation: Operation): ApiOperation {
  const { id, group, summary, caller, body, replies } = operation
  const words = [operation.description, CALLERS[caller]].filter((text) => text !== undefined)
  return {
    operationId: id,
    tags: [group],
    summary,
    description: words.join(' '),
    parameters: [
      ...pathParameters(operation.path),
      ...parametersOf('query', operation.query),
      ...parametersOf('header', operation.headers),
    ],
    ...(body && {
      requestBody: {
        required: body.isOptional !== true,
        content: {
          [body.mediaType ?? 'application/json']: { schema: toJsonSchema(body.schema, 'input') },
        },
      },
    }),
    responses: {
      ...Object.fromEntries(
        Object.entries(replies).map(([status, reply]) => [status, toResponse(reply)]),
      ),
      ...FAILURES,
    },
    security: caller === 'anyone' ? [] : [{ [caller === 'host' ? 'host' : 'key']: [] }],
  }
}

function toResponse({ what, schema, mediaType, frame }: OperationReply): Json {
  const content = {
    [mediaType ?? 'application/json']: {
      schema: schema === null ? { type: 'string' } : toJsonSchema(schema, 'output'),
    },
    ...(frame && {
      'text/event-stream': {
        schema: { type: 'string', description: 'Frames of this form, then `data: [DONE]`.' },
        'x-frame': toJsonSchema(frame, 'output'),
      },
    }),
  }
  return { description: what, content }
}

function pathParameters(path: string): ApiParameter[] {
  return [...path.matchAll(/:([a-z]+)/g)].map(([, name = '']) => ({
    name,
    in: 'path',
    required: true,
    description: PATH_PARAMETERS[name] ?? '',
    schema: { type: 'string', minLength: 1 },
  }))
}

function parametersOf(where: 'query' | 'header', schema: z.ZodObject | undefined): ApiParameter[] {
  if (schema === undefined) return []
  return Object.entries(schema.shape).map(([name, value]) => {
    const json = toJsonSchema(value, 'input')
    const { description } = json
    return {
      name,
      in: where,
      required: !z.safeParse(value, undefined).success,
      ...(typeof description === 'string' && { description }),
      schema: json,
    }
  })
}

/** `input` of what a caller sends, `output` of what it gets. */
function toJsonSchema(schema: z.core.$ZodType, io: 'input' | 'output'): Json {
  const { $schema: _, ...json } = z.toJSONSchema(schema, { io, unrepresentable: 'any' })
  return json
}
