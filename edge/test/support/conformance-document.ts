/** The tables → `docs/openai-conformance.md`. Nothing is said there that is not in a table. */

import { EDGE_ERRORS, type ErrorRow } from '../../errors.ts'
import type { FieldRule } from '../../openai/field-rules.ts'
import {
  FIELD_SCOPES,
  type FieldScope,
  HEADERS_NOT_SENT,
  pathsOf,
  REPLIES,
  REPLY_HEADERS,
  REQUEST_HEADERS,
  type ReplyTable,
  STREAM_ROWS,
  titleOf,
} from './conformance-tables.ts'

const FIELD_TESTS = 'test/70.conformance.test.ts'

type Row = readonly string[]

function table(head: Row, rows: readonly Row[]): string {
  const line = (cells: Row): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}

const code = (text: string): string => `\`${text}\``
const link = (path: string): string => `[${path}](../${path})`

function statusOf(rule: FieldRule): string {
  switch (rule.kind) {
    case 'served':
      return 'served'
    case 'idle':
      return 'accepted, without effect'
    case 'refused':
      return '400 naming it'
  }
}

function remarkOf(rule: FieldRule): string {
  if (rule.kind === 'served') return rule.what ?? ''
  if (rule.kind === 'idle') return rule.why
  const harmless = ['null', ...rule.unless.map((value) => JSON.stringify(value))]
  return `${rule.why} Taken: ${harmless.map(code).join(', ')}`
}

function fieldRows(route: FieldScope['route'], elsewhere: Elsewhere): Row[] {
  return Object.entries<FieldScope>(FIELD_SCOPES)
    .filter(([, scope]) => scope.route === route)
    .flatMap(([name, scope]) =>
      Object.entries(scope.rules).map(([field, rule]) => {
        const other = elsewhere[name]?.[field]
        const proof =
          other === undefined ? titleOf(scope, field) : `${link(other.file)}: ${other.title}`
        return [code(scope.prefix + field), statusOf(rule), remarkOf(rule), proof]
      }),
    )
}

function replyRows({ schema, notSent }: ReplyTable): Row[] {
  return [
    ...pathsOf(schema).map((path) => [code(path), 'sent', '']),
    ...Object.entries(notSent).map(([path, why]) => [code(path), 'never sent', why]),
  ]
}

/** They do so for these by themselves, and from 500 on, unless a reply says otherwise. */
const RETRIED: readonly number[] = [408, 409, 429]

export function isRetriedBySdks({ shouldRetry, status }: ErrorRow): boolean {
  return shouldRetry ?? (RETRIED.includes(status) || status >= 500)
}

function errorRows(): Row[] {
  return Object.entries<ErrorRow>(EDGE_ERRORS).map(([name, row]) => {
    const { status, type, retryAfterMs } = row
    const wait = retryAfterMs === undefined ? '' : `, after ${retryAfterMs} ms or as the reply says`
    return [code(name), String(status), code(type), isRetriedBySdks(row) ? `yes${wait}` : 'no']
  })
}

/** By scope and field. */
type Elsewhere = Readonly<
  Record<string, Readonly<Record<string, { readonly file: string; readonly title: string }>>>
>

export function renderConformance(elsewhere: Elsewhere): string {
  const fields = (route: FieldScope['route']): string =>
    table(['Field', 'Here', 'Remark', 'Test'], fieldRows(route, elsewhere))
  const replies = Object.entries<ReplyTable>(REPLIES).flatMap(([name, reply]) => [
    `### ${name}`,
    table(['Field', 'Here', 'Why'], replyRows(reply)),
  ])
  return [
    '# OpenAI conformance',
    [
      'Field by field, what Nozzle makes of OpenAI’s chat completions, completions and models. This file',
      'is written from the tables that the edge itself parses by (`edge/openai/request-fields.ts`,',
      '`reply-schemas.ts`, `errors.ts`); `edge/test/conformance.test.ts` fails when they differ, when',
      'the official SDK’s types know a field that no table has, or when a row has no test. To write it',
      'anew: `vitest run --project edge edge/test/conformance -u`.',
    ].join('\n'),
    [
      'Nothing is ignored in silence: a field that is not below is refused with 400',
      '`unknown_parameter`, which names it. `null` asks for nothing, whatever the field. Fields of',
      'other servers of open models are in the tables, too.',
    ].join('\n'),
    `## POST /v1/chat/completions\n\nTests without a file are in ${link(FIELD_TESTS)}, on the real engine, by the name that is given here.`,
    fields('chat/completions'),
    '## POST /v1/completions',
    fields('completions'),
    '## Replies',
    `${link(FIELD_TESTS)}, “sends every field of a reply that the table names, and no other”, holds real replies against these in both directions.`,
    ...replies,
    '## Streams',
    table(
      ['What', 'Here', 'Test'],
      STREAM_ROWS.map(({ what, how, file, words }) => [what, how, `${link(file)}: ${words}`]),
    ),
    '## Routes of OpenAI’s that are not served',
    `404 with an error object, such as \`DELETE /v1/models/{model}\` and \`POST /v1/embeddings\` (${link(FIELD_TESTS)}).`,
    '## Headers of a request',
    table(
      ['Header', 'Here', 'What', 'Test'],
      REQUEST_HEADERS.map(({ name, file, what }) => [
        code(name),
        file === null ? 'accepted, without effect' : 'served',
        what,
        file === null ? `${link(FIELD_TESTS)}: takes the header ${name}` : link(file),
      ]),
    ),
    '## Headers of a reply',
    table(
      ['Header', 'Here', 'What', 'Test'],
      [
        ...REPLY_HEADERS.map(({ name, file, what }) => [
          code(name),
          'sent',
          what,
          link(file ?? FIELD_TESTS),
        ]),
        ...Object.entries(HEADERS_NOT_SENT).map(([name, why]) => [
          code(name),
          'never sent',
          why,
          link('edge/test/conformance.test.ts'),
        ]),
      ],
    ),
    '## Errors',
    [
      'Always `{"error": {"message", "type", "param", "code"}}`; `param` names the field at fault. Whether',
      'OpenAI’s SDKs try again by themselves follows from the status and from `x-should-retry`; each row is',
      `a test of ${link('edge/errors.test.ts')}.`,
    ].join('\n'),
    table(['Code', 'Status', 'Type', 'SDKs retry'], errorRows()),
    '',
  ]
    .join('\n\n')
    .replace(/\n+$/, '\n')
}
