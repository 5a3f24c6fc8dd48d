/** GET /openapi.json and /docs: the API as a document, and as a page that needs no network. */
import { createApiDocument } from '../api/document.ts'
import { renderReference } from '../api/reference-page.ts'
import type { EdgeContext } from '../request-context.ts'

const CACHE = 'public, max-age=300'

/** Any page may read it: it holds nothing of this edge. */
export function showOpenapi(): (c: EdgeContext) => Response {
  let text: string | null = null
  return (c) => {
    text ??= JSON.stringify(createApiDocument())
    return c.body(text, 200, {
      'content-type': 'application/json',
      'cache-control': CACHE,
      'access-control-allow-origin': '*',
    })
  }
}

export function showReference(): (c: EdgeContext) => Response {
  let page: string | null = null
  return (c) => {
    page ??= renderReference(createApiDocument())
    return c.body(page, 200, {
      'content-type': 'text/html; charset=utf-8',
      'cache-control': CACHE,
      // Nothing but its own style runs or loads in it.
      'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'",
    })
  }
}
