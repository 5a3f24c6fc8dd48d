/**
 * What `docs/openai-conformance.md` says beside the rules of request fields: where each rule
 * applies, which fields OpenAI's SDK knows in a reply that are never sent here, and headers. Tests
 * send every row of it; the document is written from it.
 */
import { z } from 'zod'
import type { FieldRules } from '../../openai/field-rules.ts'
import {
  chatChunk,
  chatReply,
  completionChunk,
  completionReply,
  modelListReply,
  modelReply,
} from '../../openai/reply-schemas.ts'
import {
  CALL_FIELDS,
  CALL_FUNCTION_FIELDS,
  CHAT_FIELDS,
  COMPLETION_FIELDS,
  CONTENT_PART_FIELDS,
  JSON_SCHEMA_FIELDS,
  MESSAGE_FIELDS,
  RESPONSE_FORMAT_FIELDS,
  STREAM_OPTIONS_FIELDS,
  TOOL_CHOICE_FIELDS,
  TOOL_CHOICE_FUNCTION_FIELDS,
  TOOL_FIELDS,
  TOOL_FUNCTION_FIELDS,
} from '../../openai/request-fields.ts'

/** One object of a request's body, and how to send a field in it. */
export interface FieldScope {
  /** Path of its fields in the document. */
  readonly prefix: string
  readonly route: 'chat/completions' | 'completions'
  readonly rules: FieldRules
  /** What the body needs beside its model and its prompt. */
  body(fields: object): object
  /** How an error names a field of it. */
  readonly param: string
}

const tinySchema = { type: 'object', properties: {}, additionalProperties: false }
const chatScope = { route: 'chat/completions' } as const
/** The one that every body below offers. */
const tinyTool = { name: 'tiny', parameters: tinySchema }
const offered = { tools: [{ type: 'function', function: tinyTool }] }
const called = (call: object) => ({
  messages: [{ role: 'assistant', content: 'hi', tool_calls: [call] }],
})

export const FIELD_SCOPES = {
  chat: { ...chatScope, prefix: '', param: '', rules: CHAT_FIELDS, body: (fields) => fields },
  message: {
    ...chatScope,
    prefix: 'messages[].',
    param: 'messages.0.',
    rules: MESSAGE_FIELDS,
    body: (fields) => ({ messages: [{ role: 'user', content: 'hi', ...fields }] }),
  },
  part: {
    ...chatScope,
    prefix: 'messages[].content[].',
    param: 'messages.0.content.0.',
    rules: CONTENT_PART_FIELDS,
    body: (fields) => ({
      messages: [{ role: 'user', content: [{ type: 'text', text: 'hi', ...fields }] }],
    }),
  },
  call: {
    ...chatScope,
    prefix: 'messages[].tool_calls[].',
    param: 'messages.0.tool_calls.0.',
    rules: CALL_FIELDS,
    body: (fields) =>
      called({
        id: 'c1',
        type: 'function',
        function: { name: 'tiny', arguments: '{}' },
        ...fields,
      }),
  },
  callFunction: {
    ...chatScope,
    prefix: 'messages[].tool_calls[].function.',
    param: 'messages.0.tool_calls.0.function.',
    rules: CALL_FUNCTION_FIELDS,
    body: (fields) =>
      called({
        id: 'c1',
        type: 'function',
        function: { name: 'tiny', arguments: '{}', ...fields },
      }),
  },
  tool: {
    ...chatScope,
    prefix: 'tools[].',
    param: 'tools.0.',
    rules: TOOL_FIELDS,
    body: (fields) => ({ tools: [{ type: 'function', function: tinyTool, ...fields }] }),
  },
  toolFunction: {
    ...chatScope,
    prefix: 'tools[].function.',
    param: 'tools.0.function.',
    rules: TOOL_FUNCTION_FIELDS,
    body: (fields) => ({ tools: [{ type: 'function', function: { ...tinyTool, ...fields } }] }),
  },
  toolChoice: {
    ...chatScope,
    prefix: 'tool_choice.',
    param: 'tool_choice.',
    rules: TOOL_CHOICE_FIELDS,
    body: (fields) => ({
      ...offered,
      tool_choice: { type: 'function', function: { name: 'tiny' }, ...fields },
    }),
  },
  toolChoiceFunction: {
    ...chatScope,
    prefix: 'tool_choice.function.',
    param: 'tool_choice.function.',
    rules: TOOL_CHOICE_FUNCTION_FIELDS,
    body: (fields) => ({
      ...offered,
      tool_choice: { type: 'function', function: { name: 'tiny', ...fields } },
    }),
  },
  streamOptions: {
    ...chatScope,
    prefix: 'stream_options.',
    param: 'stream_options.',
    rules: STREAM_OPTIONS_FIELDS,
    body: (fields) => ({ stream: true, stream_options: fields }),
  },
  format: {
    ...chatScope,
    prefix: 'response_format.',
    param: 'response_format.',
    rules: RESPONSE_FORMAT_FIELDS,
    body: (fields) => ({
      ignore_eos: false,
      response_format: { type: 'json_object', ...fields },
    }),
  },
  jsonSchema: {
    ...chatScope,
    prefix: 'response_format.json_schema.',
    param: 'response_format.json_schema.',
    rules: JSON_SCHEMA_FIELDS,
    body: (fields) => ({
      ignore_eos: false,
      response_format: {
        type: 'json_schema',
        json_schema: { name: 'tiny', schema: tinySchema, ...fields },
      },
    }),
  },
  completion: {
    prefix: '',
    param: '',
    route: 'completions',
    rules: COMPLETION_FIELDS,
    body: (fields) => fields,
  },
} satisfies Record<string, FieldScope>
export type ScopeName = keyof typeof FIELD_SCOPES

/** The fields of a table that are served, each of which has a test of its own. */
export type Served<Rules> = {
  [Name in keyof Rules]: Rules[Name] extends { readonly kind: 'served' } ? Name : never
}[keyof Rules]

/** Title of the test of one row, in `test/70.conformance.test.ts`. */
export function titleOf({ route, prefix }: FieldScope, field: string): string {
  return `${route} ${prefix}${field}`
}

const OPTIONAL = 'OpenAI calls it optional'
const OLD_CALLS = 'it is called tool_calls since 2023'
const ONLY_FUNCTIONS = 'only functions are served'
const TEXT_ONLY = 'answers are text'
const REFUSAL = 'what a model refuses is in its content'
const USAGE_DETAILS = {
  'usage.completion_tokens_details': 'answers are text, without reasoning or predictions',
  'usage.prompt_tokens_details.audio_tokens': 'prompts are text',
  'usage.prompt_tokens_details.image_tokens': 'prompts are text',
  'usage.prompt_tokens_details.text_tokens': 'all tokens are: see prompt_tokens',
  'usage.prompt_tokens_details.cache_write_tokens': 'writing the cache costs nothing',
}

export interface ReplyTable {
  readonly schema: z.ZodType
  /**
   * Fields of the SDK's types that no reply has, each of which those types call optional. What lies
   * below one is not sent either.
   */
  readonly notSent: Readonly<Record<string, string>>
}

export const REPLIES = {
  'chat.completion': {
    schema: chatReply,
    notSent: {
      metadata: 'completions are not stored',
      moderation: 'it is refused in a request',
      system_fingerprint: OPTIONAL,
      'choices[].message.annotations': TEXT_ONLY,
      'choices[].message.audio': TEXT_ONLY,
      'choices[].message.function_call': OLD_CALLS,
      'choices[].message.tool_calls[].custom': ONLY_FUNCTIONS,
      'choices[].logprobs.refusal[]': REFUSAL,
      ...USAGE_DETAILS,
    },
  },
  'chat.completion.chunk': {
    schema: chatChunk,
    notSent: {
      moderation: 'it is refused in a request',
      obfuscation: 'it is refused in a request',
      system_fingerprint: OPTIONAL,
      'choices[].delta.audio': TEXT_ONLY,
      'choices[].delta.function_call': OLD_CALLS,
      'choices[].delta.tool_calls[].custom': ONLY_FUNCTIONS,
      'choices[].logprobs.refusal[]': REFUSAL,
      ...USAGE_DETAILS,
    },
  },
  text_completion: {
    schema: completionReply,
    notSent: { system_fingerprint: OPTIONAL, ...USAGE_DETAILS },
  },
  'text_completion, streamed': {
    schema: completionChunk,
    notSent: { system_fingerprint: OPTIONAL, ...USAGE_DETAILS },
  },
  model: {
    schema: modelReply,
    notSent: { shutdown_date: 'a model serves until its tenant removes it' },
  },
  'list of models': { schema: modelListReply, notSent: {} },
} as const satisfies Record<string, ReplyTable>
export type ReplyName = keyof typeof REPLIES

/** Dotted paths of all that a schema's values may hold; `[]` are items, `*` any name. */
export function pathsOf(schema: z.core.$ZodType, at = ''): string[] {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodNullable) {
    return pathsOf(schema.unwrap(), at)
  }
  if (schema instanceof z.ZodArray) return pathsOf(schema.element, `${at}[]`)
  if (schema instanceof z.ZodRecord) return [`${at}.*`]
  if (!(schema instanceof z.ZodObject)) return []
  return Object.entries(schema.shape).flatMap(([name, value]) => {
    const path = at === '' ? name : `${at}.${name}`
    return [path, ...pathsOf(value, path)]
  })
}

/** The same of a value. */
export function pathsIn(value: unknown, schemaPaths: ReadonlySet<string>, at = ''): string[] {
  if (Array.isArray(value)) return value.flatMap((item) => pathsIn(item, schemaPaths, `${at}[]`))
  if (typeof value !== 'object' || value === null) return []
  if (schemaPaths.has(`${at}.*`)) return Object.keys(value).length === 0 ? [] : [`${at}.*`]
  return Object.entries(value).flatMap(([name, inner]) => {
    const path = at === '' ? name : `${at}.${name}`
    return [path, ...pathsIn(inner, schemaPaths, path)]
  })
}

/** A test that speaks of the row by its name or title. */
export interface RowTest {
  readonly file: string
  readonly words: string
}

interface HeaderRow {
  readonly name: string
  readonly what: string
  /** Where it is tried; null = it has no effect, which `70.conformance.test.ts` tries. */
  readonly file: string | null
}

const INFERENCE = 'edge/test/inference.test.ts'
const IDEMPOTENCY = 'edge/test/idempotency.test.ts'
const DEADLINE = 'edge/admission/deadline.test.ts'
const LIMITS = 'edge/test/limits.test.ts'
const STREAM = 'edge/openai/event-stream.test.ts'

const header = (name: string, file: string | null, what: string): HeaderRow => ({
  name,
  file,
  what,
})

export const REQUEST_HEADERS: readonly HeaderRow[] = [
  header('authorization', INFERENCE, '`Bearer` and an API key'),
  header('idempotency-key', IDEMPOTENCY, 'a repeated request is answered and billed once'),
  header('x-stainless-timeout', DEADLINE, 'the SDK’s time-out is the deadline'),
  header('x-nozzle-deadline-ms', DEADLINE, 'ours: the deadline in milliseconds'),
  header('traceparent', 'edge/test/tracing.test.ts', 'W3C trace context, as `tracestate`'),
  header('openai-organization', null, 'an API key belongs to one tenant'),
  header('openai-project', null, 'an API key belongs to one tenant'),
  header('x-stainless-retry-count', null, 'the SDK’s telemetry, as `x-stainless-*`'),
  header('x-client-request-id', null, 'the id in a reply is ours'),
]

export const REPLY_HEADERS: readonly HeaderRow[] = [
  header('x-request-id', INFERENCE, 'on every reply; the SDK’s `request_id`'),
  header('openai-processing-ms', 'edge/test/conformance.test.ts', 'until the reply’s headers'),
  header('retry-after', LIMITS, 'seconds, where waiting helps'),
  header('retry-after-ms', LIMITS, 'the same in milliseconds, which SDKs read first'),
  header('x-should-retry', LIMITS, '`false` where a status is retried and must not be'),
  header('x-ratelimit-limit-requests', LIMITS, 'also `remaining`, `reset`'),
  header('x-ratelimit-limit-tokens', LIMITS, 'also `remaining`, `reset`'),
  header('idempotency-replayed', IDEMPOTENCY, 'ours: this reply was made before'),
  header('content-type', INFERENCE, '`application/json`, `text/event-stream`'),
]

/** Replies have no such header. */
export const HEADERS_NOT_SENT: Readonly<Record<string, string>> = {
  'openai-version': 'it dates OpenAI’s API',
  'openai-organization': 'it is in no type of the SDKs',
}

interface StreamRow extends RowTest {
  readonly what: string
  readonly how: string
}

export const STREAM_ROWS: readonly StreamRow[] = [
  {
    what: 'frames',
    how: '`data: {…}`, one chunk each, then `data: [DONE]`',
    file: INFERENCE,
    words: 'closes a stream with [DONE], as server-sent events that nothing stores',
  },
  {
    what: 'first chunk of a choice',
    how: 'chat: `{"role": "assistant", "content": "", "refusal": null}`',
    file: INFERENCE,
    words: 'streams role, text, finish and nothing else unless usage is asked for',
  },
  {
    what: 'usage',
    how: 'with `include_usage` in a last chunk without choices, `null` in those before',
    file: INFERENCE,
    words: 'ends with one chunk of usage when asked, and null usage before it',
  },
  {
    what: 'several choices',
    how: 'their chunks are mixed, each with its `index`',
    file: INFERENCE,
    words: 'streams them side by side, each chunk with its index and each choice with its end',
  },
  {
    what: 'comments',
    how: '`: waiting` while there is nothing to say',
    file: STREAM,
    words: 'keeps a stream open with comments that every client skips',
  },
  {
    what: 'a failure after the first byte',
    how: 'a frame with the object `error`, and no `[DONE]`',
    file: STREAM,
    words: 'tells a failure in a frame that SDKs throw, without [DONE]',
  },
]

/** Tests that rows name in files of their own. */
export const ROW_TESTS: readonly RowTest[] = [
  ...STREAM_ROWS,
  ...[...REQUEST_HEADERS, ...REPLY_HEADERS].flatMap(({ name, file }) =>
    file === null ? [] : [{ file, words: name }],
  ),
]
