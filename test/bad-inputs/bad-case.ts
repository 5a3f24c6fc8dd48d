/**
 * One bad input: what is sent, and what may come back. Cases are made of tables by code; a case's
 * id and bytes are the same in every run.
 */

export const CLASSES = {
  B1: 'JSON bodies',
  B2: 'numeric fields',
  B3: 'prompt sizes',
  B4: 'grammars, schemas, patterns',
  B5: 'HTTP framing',
  B6: 'safetensors files',
  B7: 'adapter configs',
  B8: 'files in disguise',
  B9: 'CLI and control API',
} as const
export type ClassId = keyof typeof CLASSES

type Bytes = string | Uint8Array<ArrayBuffer>

export interface HttpInput {
  readonly kind: 'http'
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  /** Made when it is sent: some are tens of megabytes. */
  readonly body: (() => Bytes) | null
}

export interface UploadInput {
  readonly kind: 'upload'
  readonly model: string
  readonly config: () => Bytes
  readonly weights: () => Bytes
  /** Of the parts, as the client calls its files. */
  readonly fileNames: { readonly config: string; readonly weights: string }
}

/** Bytes as they go over a connection, one write each. */
export interface SocketInput {
  readonly kind: 'socket'
  readonly to: 'edge' | 'host'
  readonly writes: readonly Bytes[]
  /** What the client does then: waits for the reply, closes its half, or leaves at once. */
  readonly afterwards: 'wait' | 'end' | 'destroy'
}

export interface CliInput {
  readonly kind: 'cli'
  readonly args: readonly string[]
}

export type Input = HttpInput | UploadInput | SocketInput | CliInput

/**
 * `refused`: a 4xx in the error's shape, or the CLI's exit code 2 to 5. `param` is the field that it
 * must name; absent = any or none. `legal`: a 2xx. `either`: one of the two. `closed`: either, or
 * the connection ends without a reply.
 */
export type Expected =
  | { readonly is: 'refused'; readonly param?: string | RegExp | null }
  | { readonly is: 'legal' | 'either' | 'closed' }

export interface BadCase {
  /** `<class>-<number>`. */
  readonly id: string
  readonly classId: ClassId
  readonly title: string
  readonly input: Input
  readonly expected: Expected
}

/** What the cases are about: names and files of the pool that they are sent to. */
export interface World {
  readonly tenant: string
  readonly tenantId: string
  readonly tenantKey: string
  readonly operatorKey: string
  readonly model: string
  readonly baseModel: string
  readonly contextLength: number
  readonly vocabularySize: number
  /** Of a sound adapter. */
  readonly config: string
  readonly weights: Uint8Array<ArrayBuffer>
}

/** In what tenants send, wherever text may stand: it must come up in no log. */
export const CANARY = 'canary7301'

export const REFUSED: Expected = { is: 'refused' }
export const LEGAL: Expected = { is: 'legal' }
export const EITHER: Expected = { is: 'either' }
export const CLOSED: Expected = { is: 'closed' }
export const refusedAt = (param: string | RegExp | null): Expected => ({ is: 'refused', param })

type Row = Pick<BadCase, 'title' | 'input' | 'expected'>

/** Collects a class's cases and numbers them. */
export class CaseList {
  readonly cases: BadCase[] = []
  readonly #classId: ClassId

  constructor(classId: ClassId) {
    this.#classId = classId
  }

  add(title: string, input: Input, expected: Expected): void {
    const row: Row = { title, input, expected }
    const number = String(this.cases.length + 1).padStart(3, '0')
    this.cases.push({ ...row, id: `${this.#classId}-${number}`, classId: this.#classId })
  }
}

export const CHAT_PATH = '/v1/chat/completions'
export const TEXT_PATH = '/v1/completions'

export function post(path: string, key: string, body: Bytes | (() => Bytes)): HttpInput {
  return {
    kind: 'http',
    method: 'POST',
    path,
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: typeof body === 'function' ? body : () => body,
  }
}

/** A JSON object's text: values are text already, and names may stand twice. */
export function objectText(members: readonly (readonly [name: string, value: string])[]): string {
  return `{${members.map(([name, value]) => `${JSON.stringify(name)}:${value}`).join(',')}}`
}

/** A sound chat request's members, as text. */
export function chatMembers({ model }: World): [string, string][] {
  const messages = JSON.stringify([{ role: 'user', content: `say ${CANARY}` }])
  return [
    ['model', JSON.stringify(model)],
    ['messages', messages],
    ['max_tokens', '2'],
  ]
}

/** The same for a text completion. */
export function textMembers({ model }: World): [string, string][] {
  return [
    ['model', JSON.stringify(model)],
    ['prompt', JSON.stringify(`say ${CANARY}`)],
    ['max_tokens', '2'],
  ]
}

/** With a member in place of the one of its name, or added. */
export function withMember(
  members: readonly (readonly [string, string])[],
  name: string,
  value: string,
): [string, string][] {
  const others = members.filter(([known]) => known !== name)
  return [...others.map(([known, text]): [string, string] => [known, text]), [name, value]]
}

/** `[[[…]]]`, or with `name`: `{"name":{"name":…}}`. */
export function nested(depth: number, name: string | null = null): string {
  if (name === null) return '['.repeat(depth) + ']'.repeat(depth)
  return `${`{${JSON.stringify(name)}:`.repeat(depth)}1${'}'.repeat(depth)}`
}
