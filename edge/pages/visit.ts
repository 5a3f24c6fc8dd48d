/**
 * One visit to a page: who looks, and what the API tells them. A visitor without a session is sent
 * to the sign-in and comes back from there.
 */
import { getCookie } from 'hono/cookie'
import type { Deps } from '../deps.ts'
import { ADMIN_BYTES_MAX } from '../limits.ts'
import { readBytes } from '../read-body.ts'
import type { EdgeContext } from '../request-context.ts'
import { document, type Page } from './layout.ts'
import { noticeOf } from './notices.ts'
import { type ApiApp, PageApi } from './page-api.ts'
import { giveSession, SESSION_COOKIE } from './session-cookie.ts'
import { type Viewer, viewer } from './wire.ts'

export interface Visit {
  readonly c: EdgeContext
  readonly api: PageApi
  readonly viewer: Viewer
  /** Of the path; empty where it has none. */
  readonly tenantName: string
  /** The pool's time. */
  readonly nowMs: number
  show(page: Page): Response | Promise<Response>
}

export type PageHandler = (visit: Visit) => Response | Promise<Response>

/** A page for those who are signed in. */
export function visited(
  deps: Deps,
  app: ApiApp,
  handler: PageHandler,
): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const token = getCookie(c, SESSION_COOKIE)
    const session = token === undefined ? null : await deps.sessions.verify(token)
    if (token === undefined || session === null) return toSignIn(c)
    const renewed = await deps.sessions.renew(session)
    if (renewed !== null) giveSession(deps, c, renewed)
    const api = new PageApi(app, c, token)
    const who = await api.get('/v1/whoami', viewer)
    const tenantName = c.req.param('tenant') ?? ''
    const show = (page: Page): Response | Promise<Response> =>
      c.html(
        document(page, {
          viewer: who,
          tenantName: tenantName || (who.tenant?.name ?? null),
          here: c.req.path,
          notice: noticeOf(c.req.query('done')),
          texts: deps.assets,
        }),
      )
    return handler({ c, api, viewer: who, tenantName, nowMs: deps.nowMs(), show })
  }
}

/** Only what was looked at can be come back to: a form that was sent is not sent again. */
export function toSignIn(c: EdgeContext): Response {
  if (c.req.method !== 'GET') return c.redirect('/ui/sign-in', 303)
  const { pathname, search } = new URL(c.req.url)
  return c.redirect(`/ui/sign-in?next=${encodeURIComponent(pathname + search)}`, 303)
}

/** The fields of a form. */
export async function readForm(c: EdgeContext): Promise<URLSearchParams> {
  const bytes = await readBytes(c.req.raw, ADMIN_BYTES_MAX)
  return new URLSearchParams(new TextDecoder().decode(bytes))
}
