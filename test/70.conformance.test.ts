/**
 * `docs/openai-conformance.md`, row by row, on the real engine: what is served has an effect, what
 * is refused names its field, what is without effect has none, and replies hold the fields that the
 * table says and no others.
 */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { errorReply, modelListReply, modelReply } from '../edge/openai/reply-schemas.ts'
import {
  FIELD_SCOPES,
  type FieldScope,
  pathsIn,
  pathsOf,
  REPLIES,
  REQUEST_HEADERS,
  type ReplyName,
  titleOf,
} from '../edge/test/support/conformance-tables.ts'
import { FIELD_PROOFS } from './support/field-proofs.ts'
import { describeOnPools, ON_EACH_EDGE } from './support/on-edges.ts'
import { OpenaiCalls } from './support/openai-call.ts'
import { type Pool, startPool } from './support/pool.ts'
import { createPoolHome, type PoolHome, TOOLS_ENV } from './support/pool-home.ts'

/** Nothing that any field could mean. */
const NONSENSE = 'zzz'

describeOnPools('conformance', ON_EACH_EDGE, (edge) => {
  let home: PoolHome
  let pool: Pool
  let calls: OpenaiCalls

  beforeAll(async () => {
    home = await createPoolHome(edge)
    pool = await startPool({ env: { ...home.env, ...TOOLS_ENV } })
    calls = new OpenaiCalls(pool)
  })
  afterAll(async () => {
    await pool?.stop()
    await home?.remove()
  })

  const textOf = async (scope: FieldScope, fields: object): Promise<string> => {
    const body = scope.body(fields)
    if (!('stream' in body)) return calls.text(scope.route, body)
    const chunks = await calls.chatChunks(body)
    return chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('')
  }

  /** What each scope's body is answered with when it holds nothing more. */
  const plains = new Map<FieldScope, Promise<string>>()
  const plainOf = (scope: FieldScope): Promise<string> => {
    const known = plains.get(scope) ?? textOf(scope, {})
    plains.set(scope, known)
    return known
  }

  for (const [name, scope] of Object.entries<FieldScope>(FIELD_SCOPES)) {
    const rows = Object.entries(scope.rules).map(([field, rule]) => ({
      title: titleOf(scope, field),
      field,
      rule,
    }))
    const served = rows.flatMap(({ title, field }) => {
      const proof = FIELD_PROOFS[name]?.[field]
      return proof === undefined ? [] : [{ title, proof }]
    })

    it.concurrent.each(served)('serves $title', ({ proof }) => proof(calls))

    it.concurrent.each(rows.filter(({ rule }) => rule.kind === 'refused'))(
      'refuses $title by its name',
      async ({ field, rule }) => {
        const body = scope.body({ [field]: NONSENSE })
        expect(await calls.refusal(scope.route, body)).toMatchObject({
          status: 400,
          type: 'invalid_request_error',
          code: 'unsupported_parameter',
          param: scope.param + field,
        })
        const harmless = [null, ...(rule.kind === 'refused' ? rule.unless : [])]
        const texts = harmless.map((value) => textOf(scope, { [field]: value }))
        const plain = await plainOf(scope)
        for (const text of await Promise.all(texts)) expect(text).toBe(plain)
      },
    )

    it.concurrent.each(rows.filter(({ rule }) => rule.kind === 'idle'))(
      'takes $title without effect',
      async ({ field }) => {
        expect(await textOf(scope, { [field]: NONSENSE })).toBe(await plainOf(scope))
      },
    )

    it(`refuses what it does not know, of ${name}, by its name`, async () => {
      const refusal = await calls.refusal(scope.route, scope.body({ zzz: 1 }))
      expect(refusal).toMatchObject({
        status: 400,
        code: 'unknown_parameter',
        param: `${scope.param}zzz`,
      })
    })
  }

  it.each(REQUEST_HEADERS.filter(({ file }) => file === null))(
    'takes the header $name without effect',
    async ({ name }) => {
      const fields = { max_tokens: 4 }
      const plain = await calls.text('chat/completions', fields)
      const withHeader = new OpenaiCalls(pool, { [name]: '1' })
      expect(await withHeader.text('chat/completions', fields)).toBe(plain)
    },
  )

  const get = async (path: string): Promise<unknown> => {
    const headers = { authorization: `Bearer ${pool.demoKey}` }
    const response = await fetch(`${pool.ready.base_url}/${path}`, { headers })
    expect(response.status).toBe(200)
    return response.json()
  }

  it('sends every field of a reply that the table names, and no other', async () => {
    const asked = { logprobs: true, top_logprobs: 1, service_tier: 'auto' }
    const usage = { stream_options: { include_usage: true } }
    const tools = [{ type: 'function', function: { name: 'now' } }]
    const one = { tool_choice: 'required', parallel_tool_calls: false }
    const calling = { ...one, tools, max_tokens: 60, ignore_eos: false }
    const list = modelListReply.parse(await get('models'))
    const real: Readonly<Record<ReplyName, readonly unknown[]>> = {
      'chat.completion': [await calls.chat(asked), await calls.chat(calling)],
      'chat.completion.chunk': [
        ...(await calls.chatChunks({ ...asked, ...usage })),
        ...(await calls.chatChunks(calling)),
      ],
      text_completion: [await calls.complete({ logprobs: 1 })],
      'text_completion, streamed': await calls.completionChunks({ logprobs: 1, ...usage }),
      model: [modelReply.parse(await get(`models/${list.data.at(-1)?.id}`))],
      'list of models': [list],
    }
    for (const [name, { schema }] of Object.entries(REPLIES)) {
      const known = new Set(pathsOf(schema))
      const seen = new Set(
        Object.entries(real).flatMap(([kind, values]) =>
          kind === name ? values.flatMap((value) => pathsIn(value, known)) : [],
        ),
      )
      expect([...seen].sort(), name).toEqual([...known].sort())
    }
  })

  it.each([
    ['DELETE', 'models/demo/ticket-triage', 404],
    ['POST', 'embeddings', 404],
    ['POST', 'responses', 404],
    ['GET', 'models/no-such-model', 404],
  ])('answers %s /v1/%s with %i and an error object', async (method, path, status) => {
    const headers = { authorization: `Bearer ${pool.demoKey}` }
    const response = await fetch(`${pool.ready.base_url}/${path}`, { method, headers })
    expect(response.status).toBe(status)
    errorReply.parse(await response.json())
  })
})
