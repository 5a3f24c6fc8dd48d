/** The cookie of a session: for the pages alone, out of reach of scripts and other sites. */
import { deleteCookie, setCookie } from 'hono/cookie'
import { SESSION_TTL_S } from '../auth/session.ts'
import type { Deps } from '../deps.ts'
import type { EdgeContext } from '../request-context.ts'

export const SESSION_COOKIE = 'nozzle_session'
const PATH = '/ui'

export function giveSession(deps: Deps, c: EdgeContext, token: string): void {
  setCookie(c, SESSION_COOKIE, token, {
    path: PATH,
    httpOnly: true,
    sameSite: 'Lax',
    secure: originOf(deps, c).startsWith('https:'),
    maxAge: SESSION_TTL_S,
  })
}

export function takeSession(c: EdgeContext): void {
  deleteCookie(c, SESSION_COOKIE, { path: PATH })
}

/** As browsers see it: behind a proxy that ends TLS only the configuration knows. */
export function originOf(deps: Deps, c: EdgeContext): string {
  return new URL(deps.config.publicUrl ?? c.req.url).origin
}
