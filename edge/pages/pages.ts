/**
 * The pages under /ui: a tenant's and, with the operator key, the pool's. They are a client of the
 * API (page-api.ts) and hold no rule of their own. No other site can send their forms, frame them
 * or run a script in them.
 */
import { Hono } from 'hono'
import { csrf } from 'hono/csrf'
import { html } from 'hono/html'
import { HTTPException } from 'hono/http-exception'
import { secureHeaders } from 'hono/secure-headers'
import type { Deps } from '../deps.ts'
import { EdgeError, toEdgeError } from '../errors.ts'
import type { EdgeContext, EdgeEnv } from '../request-context.ts'
import { assetReply } from './assets.ts'
import { downloadInvoiceFile, showInvoicePage, showInvoicesPage } from './invoices-page.ts'
import { createKey, revokeKey, showKeysPage } from './keys-page.ts'
import { showLatencyPage } from './latency-page.ts'
import { document } from './layout.ts'
import { changeCanary, endCanary, promote, rollBack, showModelPage } from './model-page.ts'
import { showModelsPage } from './models-page.ts'
import type { ApiApp } from './page-api.ts'
import { relayChat, showPlayground } from './playground-page.ts'
import { showPoolPage } from './pool-page.ts'
import { showResidencyPage } from './residency-page.ts'
import { showSavingsPage } from './savings-page.ts'
import { originOf, takeSession } from './session-cookie.ts'
import { showSignIn, signIn, signOut } from './sign-in.ts'
import { showTenantsPage } from './tenants-page.ts'
import { showUsagePage } from './usage-page.ts'
import { type PageHandler, toSignIn, type Visit, visited } from './visit.ts'

/** `app`: the one that these pages are mounted in. */
export function createPages(deps: Deps, app: ApiApp): Hono<EdgeEnv> {
  const ui = new Hono<EdgeEnv>()
  ui.onError((thrown, c) => toErrorPage(deps, thrown, c))
  ui.get('/assets/:name', (c) => {
    const reply = assetReply(c, deps.assets, c.req.param('name'))
    if (reply === null) throw noPage(c)
    return reply
  })
  ui.use(keepPrivate)
  ui.use(ownOriginOnly)
  ui.use(csrf({ origin: (origin, c) => isOwn(deps, c, origin) }))

  const page = (handler: PageHandler) => visited(deps, app, handler)
  ui.get('/', page(toFirstPage))
  ui.get('/sign-in', showSignIn(deps))
  ui.post('/sign-in', signIn(deps))
  ui.post('/sign-out', signOut)

  ui.get('/t/:tenant/models', page(showModelsPage))
  ui.get('/t/:tenant/models/:model', page(showModelPage))
  ui.post('/t/:tenant/models/:model/canary', page(changeCanary))
  ui.post('/t/:tenant/models/:model/end-canary', page(endCanary))
  ui.post('/t/:tenant/models/:model/promote', page(promote))
  ui.post('/t/:tenant/models/:model/rollback', page(rollBack))
  ui.get('/t/:tenant/usage', page(showUsagePage))
  ui.get('/t/:tenant/invoices', page(showInvoicesPage))
  ui.get('/t/:tenant/invoices/:invoice', page(showInvoicePage))
  ui.get('/t/:tenant/invoices/:invoice/export', page(downloadInvoiceFile))
  ui.get('/t/:tenant/keys', page(showKeysPage))
  ui.post('/t/:tenant/keys', page(createKey))
  ui.post('/t/:tenant/keys/:key/revoke', page(revokeKey))
  ui.get('/t/:tenant/playground', page(showPlayground))
  ui.post('/t/:tenant/chat/:model', page(relayChat))

  ui.get('/pool', page(showPoolPage))
  ui.get('/residency', page(showResidencyPage))
  ui.get('/latency', page(showLatencyPage))
  ui.get('/savings', page(showSavingsPage))
  ui.get('/tenants', page(showTenantsPage))
  ui.all('*', (c) => {
    throw noPage(c)
  })
  return ui
}

/** Nothing from elsewhere, nothing inline, in nobody's frame. */
const ownOriginOnly = secureHeaders({
  contentSecurityPolicy: {
    defaultSrc: ["'none'"],
    scriptSrc: ["'self'"],
    styleSrc: ["'self'"],
    imgSrc: ["'self'", 'data:'],
    connectSrc: ["'self'"],
    formAction: ["'self'"],
    frameAncestors: ["'none'"],
    baseUri: ["'none'"],
  },
  // Without one, browsers keep from a form's request where it comes from, too.
  referrerPolicy: 'same-origin',
  // Whether a whole domain is on TLS is not this edge's to say.
  strictTransportSecurity: false,
})

async function keepPrivate(c: EdgeContext, next: () => Promise<void>): Promise<void> {
  await next()
  c.header('cache-control', 'no-store')
}

function isOwn(deps: Deps, c: EdgeContext, origin: string): boolean {
  return origin === originOf(deps, c) || origin === new URL(c.req.url).origin
}

function toFirstPage({ c, viewer }: Visit): Response {
  const { tenant, scopes } = viewer
  if (tenant === null) return c.redirect('/ui/pool', 303)
  const first = scopes === null || scopes.includes('deploy') ? 'models' : 'playground'
  return c.redirect(`/ui/t/${encodeURIComponent(tenant.name)}/${first}`, 303)
}

function noPage(c: EdgeContext): EdgeError {
  return new EdgeError('not_found', `There is no page ${c.req.path}.`)
}

/** A session whose key holds no more ends here; what a form got wrong is told. */
function toErrorPage(deps: Deps, thrown: unknown, c: EdgeContext): Response | Promise<Response> {
  const error =
    thrown instanceof HTTPException && thrown.status === 403
      ? new EdgeError('permission_denied', 'The form was not sent from these pages.')
      : toEdgeError(thrown)
  c.set('error', error)
  if (error.code === 'invalid_api_key') {
    takeSession(c)
    return toSignIn(c)
  }
  const content = html`<section class="card"><p>${error.message}</p>
<p class="help">Code <code>${error.code}</code>, request <code>${c.get('requestId')}</code>.</p>
<p><a href="/ui">To the first page</a></p></section>`
  const frame = {
    viewer: null,
    tenantName: null,
    here: c.req.path,
    notice: null,
    texts: deps.assets,
  }
  const title = error.status === 404 ? 'Not found' : 'That did not work'
  return c.html(document({ title, content }, frame), error.status as 400)
}
