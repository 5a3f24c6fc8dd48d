/** Pure: what came back, held against what may come back. */
import { z } from 'zod'
import type { Expected } from './bad-case.ts'

/** `lost`: the connection ended without a reply. */
export type Reply =
  | { readonly is: 'answered'; readonly status: number; readonly body: string }
  | { readonly is: 'exited'; readonly code: number; readonly words: string }
  | { readonly is: 'lost'; readonly reason: string }

/** `late`: more than this while a reply was waited for. */
export type Verdict =
  | { readonly is: 'refused' | 'legal' | 'closed' }
  | { readonly is: 'wrong'; readonly why: string }

/** OpenAI's shape on the edge; a host's own says the same and when to come again. */
const errorBody = z.object({
  error: z.object({
    message: z.string().min(1).max(4000),
    code: z.string().min(1),
    param: z.string().nullable(),
  }),
})

/** Of the CLI: what was typed or asked for is wrong, and nothing is broken. */
const CLI_REFUSALS = [2, 3, 4, 5]

export function judge(reply: Reply, expected: Expected): Verdict {
  if (reply.is === 'lost') {
    return expected.is === 'closed' ? { is: 'closed' } : wrong(`no reply: ${reply.reason}`)
  }
  if (reply.is === 'exited') {
    const isRefusal = CLI_REFUSALS.includes(reply.code) && reply.words.includes('error')
    return isRefusal ? { is: 'refused' } : wrong(`exit code ${reply.code}: ${reply.words}`)
  }
  const { status, body } = reply
  const isLegal = status >= 200 && status < 300
  if (isLegal) return expected.is === 'refused' ? wrong(`${status}: ${body}`) : { is: 'legal' }
  if (status < 400 || status > 499 || expected.is === 'legal') return wrong(`${status}: ${body}`)
  // What Node's parser refuses has no body.
  if (expected.is === 'closed' && body === '') return { is: 'refused' }
  const error = toError(body)
  if (error === null) return wrong(`${status} without the error's shape: ${body}`)
  if (expected.is !== 'refused' || expected.param === undefined) return { is: 'refused' }
  return names(error.param, expected.param)
    ? { is: 'refused' }
    : wrong(`names ${error.param}, not ${expected.param}: ${error.message}`)
}

function toError(body: string): z.infer<typeof errorBody>['error'] | null {
  try {
    return errorBody.parse(JSON.parse(body)).error
  } catch {
    return null
  }
}

function names(param: string | null, expected: string | RegExp | null): boolean {
  if (!(expected instanceof RegExp)) return param === expected
  return param !== null && expected.test(param)
}

function wrong(why: string): Verdict {
  return { is: 'wrong', why: why.slice(0, 300) }
}
