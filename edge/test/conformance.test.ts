/**
 * `docs/openai-conformance.md` is what the tables say, the tables are what the parsers do, and they
 * hold every field that the official SDK's types know. What each row promises is tried in
 * `test/70.conformance.test.ts`.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type OpenAI from 'openai'
import { afterAll, beforeAll, expect, expectTypeOf, it } from 'vitest'
import type { z } from 'zod'
import { FIELD_PROOFS, PROVEN_ELSEWHERE } from '../../test/support/field-proofs.ts'
import { chatBody } from '../openai/chat-request.ts'
import { completionBody } from '../openai/completion-request.ts'
import type { chatChunk, chatReply, completionReply, modelReply } from '../openai/reply-schemas.ts'
import {
  type CALL_FIELDS,
  CHAT_FIELDS,
  COMPLETION_FIELDS,
  type MESSAGE_FIELDS,
  type TOOL_CHOICE_FIELDS,
  type TOOL_FIELDS,
  type TOOL_FUNCTION_FIELDS,
} from '../openai/request-fields.ts'
import { renderConformance } from './support/conformance-document.ts'
import {
  FIELD_SCOPES,
  type FieldScope,
  HEADERS_NOT_SENT,
  type REPLIES,
  ROW_TESTS,
} from './support/conformance-tables.ts'
import { TestPool } from './support/test-pool.ts'

const root = join(import.meta.dirname, '..', '..')
it('is what docs/openai-conformance.md says', async () => {
  const text = renderConformance(PROVEN_ELSEWHERE)
  await expect(text).toMatchFileSnapshot(join(root, 'docs', 'openai-conformance.md'))
})

it('names tests that there are', () => {
  const elsewhere = Object.values(PROVEN_ELSEWHERE)
    .flatMap((tests) => Object.values(tests))
    .map(({ file, title: words }) => ({ file, words }))
  for (const { file, words } of [...elsewhere, ...ROW_TESTS]) {
    expect(readFileSync(join(root, file), 'utf8'), file).toContain(words)
  }
})

it('has a proof for every field that is served', () => {
  for (const [name, { rules }] of Object.entries<FieldScope>(FIELD_SCOPES)) {
    const elsewhere = Object.entries(PROVEN_ELSEWHERE).find(([scope]) => scope === name)?.[1] ?? {}
    const proven = [...Object.keys(FIELD_PROOFS[name] ?? {}), ...Object.keys(elsewhere)]
    const served = Object.keys(rules).filter((field) => rules[field]?.kind === 'served')
    expect(
      served.filter((field) => !proven.includes(field)),
      name,
    ).toEqual([])
  }
})

it.each([
  ['chat', chatBody, CHAT_FIELDS],
  ['completions', completionBody, COMPLETION_FIELDS],
] as const)('serves what the parser of %s reads, no more and no less', (_, schema, rules) => {
  const served = Object.entries(rules).flatMap(([field, { kind }]) =>
    kind === 'served' ? [field] : [],
  )
  expect(Object.keys(schema.shape).sort()).toEqual(served.sort())
})

/** Dotted paths of all that a type may hold, as the tables write them. */
type Paths<T, At extends string = ''> = T extends readonly (infer Item)[]
  ? Paths<Item, `${At}[]`>
  : T extends object
    ? {
        [Key in keyof T & string]-?: Below<At, Key> | Paths<NonNullable<T[Key]>, Below<At, Key>>
      }[keyof T & string]
    : never
type Below<At extends string, Key extends string> = At extends '' ? Key : `${At}.${Key}`
/** Fields of the SDK's type that are neither sent nor said not to be. */
type Unsaid<Sdk, Sent, Missing> = Exclude<
  Paths<Sdk>,
  Paths<Sent> | (keyof Missing & string) | `${keyof Missing & string}${'.' | '['}${string}`
>

it('knows every field of the SDK', () => {
  type Chat = OpenAI.ChatCompletionCreateParams
  expectTypeOf<Exclude<keyof Chat, keyof typeof CHAT_FIELDS>>().toEqualTypeOf<never>()
  type Completion = OpenAI.CompletionCreateParams
  expectTypeOf<Exclude<keyof Completion, keyof typeof COMPLETION_FIELDS>>().toEqualTypeOf<never>()
  type EveryKey<T> = T extends unknown ? keyof T : never
  type Message = EveryKey<OpenAI.ChatCompletionMessageParam>
  expectTypeOf<Exclude<Message, keyof typeof MESSAGE_FIELDS>>().toEqualTypeOf<never>()
  type Tool = EveryKey<OpenAI.ChatCompletionTool>
  expectTypeOf<Exclude<Tool, keyof typeof TOOL_FIELDS>>().toEqualTypeOf<never>()
  type Named = keyof OpenAI.FunctionDefinition
  expectTypeOf<Exclude<Named, keyof typeof TOOL_FUNCTION_FIELDS>>().toEqualTypeOf<never>()
  type Choice = EveryKey<Exclude<OpenAI.ChatCompletionToolChoiceOption, string>>
  expectTypeOf<Exclude<Choice, keyof typeof TOOL_CHOICE_FIELDS>>().toEqualTypeOf<never>()
  type Call = EveryKey<OpenAI.ChatCompletionMessageToolCall>
  expectTypeOf<Exclude<Call, keyof typeof CALL_FIELDS>>().toEqualTypeOf<never>()
  type Missing = { [Name in keyof typeof REPLIES]: (typeof REPLIES)[Name]['notSent'] }
  expectTypeOf<
    Unsaid<OpenAI.ChatCompletion, z.infer<typeof chatReply>, Missing['chat.completion']>
  >().toEqualTypeOf<never>()
  expectTypeOf<
    Unsaid<OpenAI.ChatCompletionChunk, z.infer<typeof chatChunk>, Missing['chat.completion.chunk']>
  >().toEqualTypeOf<never>()
  expectTypeOf<
    Unsaid<OpenAI.Completion, z.infer<typeof completionReply>, Missing['text_completion']>
  >().toEqualTypeOf<never>()
  expectTypeOf<
    Unsaid<OpenAI.Model, z.infer<typeof modelReply>, Missing['model']>
  >().toEqualTypeOf<never>()
})

let pool: TestPool
beforeAll(async () => {
  pool = await TestPool.start()
})
afterAll(() => pool.stop())

it('sends none of the headers that it says it never sends', async () => {
  const response = await pool.call('GET', '/v1/models', pool.operatorKey)
  expect(response.status).toBe(200)
  for (const name of Object.keys(HEADERS_NOT_SENT)) expect(response.headers.get(name)).toBeNull()
  expect(response.headers.get('openai-processing-ms')).toMatch(/^\d+$/)
})
