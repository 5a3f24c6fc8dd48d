/** An API key is exchanged for a session, which its owner ends again. The key is not kept. */
import { html } from 'hono/html'
import { parseApiKey } from '../auth/api-key.ts'
import type { Deps } from '../deps.ts'
import { toEdgeError } from '../errors.ts'
import type { EdgeContext } from '../request-context.ts'
import type { Html } from './html.ts'
import { document } from './layout.ts'
import { noticeOf } from './notices.ts'
import { giveSession, takeSession } from './session-cookie.ts'
import { readForm } from './visit.ts'

/** Only pages of these are come back to, never another site. */
const NEXT = /^\/ui(?:\/[A-Za-z0-9._~%-]+)*(?:\?[A-Za-z0-9._~%=&-]*)?$/

export function showSignIn(deps: Deps): (c: EdgeContext) => Response | Promise<Response> {
  return (c) => c.html(signInPage(deps, c, { next: c.req.query('next') ?? '', fault: null }))
}

export function signIn(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const form = await readForm(c)
    const next = form.get('next') ?? ''
    const key = (form.get('key') ?? '').trim()
    try {
      const keepAlive = c.get('keepAlive')
      c.set('identity', await deps.authenticator.authenticate(`Bearer ${key}`, keepAlive))
    } catch (thrown) {
      const error = toEdgeError(thrown)
      c.set('error', error)
      return c.html(signInPage(deps, c, { next, fault: error.message }), error.status as 401)
    }
    // It was let in, so it is one.
    giveSession(deps, c, await deps.sessions.begin(parseApiKey(key)?.id ?? ''))
    return c.redirect(NEXT.test(next) ? next : '/ui', 303)
  }
}

/** The token itself lives on until it is over; its key is what ends it at once. */
export function signOut(c: EdgeContext): Response {
  takeSession(c)
  return c.redirect('/ui/sign-in?done=signed-out', 303)
}

function signInPage(
  deps: Deps,
  c: EdgeContext,
  { next, fault }: { readonly next: string; readonly fault: string | null },
): Html {
  const describedBy = fault === null ? 'key-help' : 'key-fault key-help'
  const content = html`<form method="post" action="/ui/sign-in" class="card narrow">
<input type="hidden" name="next" value="${next}">
<label for="key">API key</label>
<input id="key" name="key" type="password" required autofocus autocomplete="current-password"
  spellcheck="false" aria-describedby="${describedBy}" aria-invalid="${String(fault !== null)}">
${fault === null ? null : html`<p id="key-fault" class="fault" role="alert">${fault}</p>`}
<p id="key-help" class="help">The key of a tenant shows the tenant's pages, the operator key those
of the pool and of every tenant. The key itself is not kept: the session lasts an hour after the
last visit, and ends with the key.</p>
<button>Sign in</button>
</form>`
  return document(
    { title: 'Sign in', content },
    {
      viewer: null,
      tenantName: null,
      here: c.req.path,
      notice: noticeOf(c.req.query('done')),
      texts: deps.assets,
    },
  )
}
