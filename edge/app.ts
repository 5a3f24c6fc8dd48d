/** The edge's whole route table. What stands above wins where two patterns fit. */
import { Hono } from 'hono'
import { cors } from 'hono/cors'
import { EDGE_ROUTES } from '#protocol'
import { RATE_HEADERS } from './admission/rate-headers.ts'
import { keysInHeadersOnly } from './auth/stray-key.ts'
import type { Deps } from './deps.ts'
import { EdgeError } from './errors.ts'
import { createPages } from './pages/pages.ts'
import { type EdgeEnv, requestContext, toErrorResponse } from './request-context.ts'
import { showOpenapi, showReference } from './routes/api-reference.ts'
import {
  showBookDifferences,
  showBookedEvents,
  showBookLag,
  showBookTotals,
} from './routes/books.ts'
import { promoteCanary, rollBackModel, splitModel } from './routes/deployments.ts'
import { showHealth, showMetrics } from './routes/health.ts'
import { dropHost, showHost, showHosts, wishOfHost } from './routes/hosts.ts'
import { CHAT, infer, TEXT } from './routes/inference.ts'
import {
  addInvoice,
  closeInvoice,
  downloadInvoice,
  showInvoice,
  showInvoices,
} from './routes/invoices.ts'
import { addKey, dropKey, showKeys } from './routes/keys.ts'
import { changeLimits, dropLimits, showLimits } from './routes/limits.ts'
import { showModelUse } from './routes/model-use.ts'
import { deployVersion, dropModel, showModel, showModels } from './routes/models.ts'
import { listOpenaiModels, showOpenaiModel } from './routes/openai-models.ts'
import { showOrganizationCosts, showOrganizationUsage } from './routes/organization.ts'
import { takeHeartbeat, takeUsage } from './routes/pool.ts'
import { showPoolAdapters } from './routes/pool-adapters.ts'
import { showPoolLatency } from './routes/pool-latency.ts'
import { showPoolSavings } from './routes/pool-savings.ts'
import { setPrice, showPrices } from './routes/prices.ts'
import { addTenant, changeTenant, showTenant, showTenants } from './routes/tenants.ts'
import { completeUpload, planUpload } from './routes/uploads.ts'
import { showUsage, showUsageEvents, showUsageFeed } from './routes/usage.ts'
import { showCaller } from './routes/whoami.ts'

/** Of replies, to scripts of other sites. */
const EXPOSED = [
  'x-request-id',
  'retry-after',
  'retry-after-ms',
  'x-should-retry',
  'x-nozzle-manifest',
  'idempotency-replayed',
  ...RATE_HEADERS,
]

export function createApp(deps: Deps): Hono<EdgeEnv> {
  const app = new Hono<EdgeEnv>()
  app.use(requestContext(deps))
  app.use(keysInHeadersOnly)
  app.onError((error, c) => toErrorResponse(error, c))
  app.notFound((c) =>
    toErrorResponse(
      new EdgeError('not_found', `Unknown request URL: ${c.req.method} ${c.req.path}.`),
      c,
    ),
  )

  app.get('/healthz', showHealth(deps))
  app.get('/metrics', showMetrics(deps))
  app.post(EDGE_ROUTES.heartbeat, takeHeartbeat(deps))
  app.post(EDGE_ROUTES.usage, takeUsage(deps))

  // Above CORS: sessions are in a cookie, so no other site may call these.
  app.get('/', (c) => c.redirect('/ui', 302))
  app.route('/ui', createPages(deps, app))

  app.get('/openapi.json', showOpenapi())
  app.get('/docs', showReference())

  // Keys travel in a header, never in a cookie, so any page may call with a key that it was given.
  const preflight = cors({ origin: '*', exposeHeaders: EXPOSED, maxAge: 86_400 })
  app.use((c, next) => {
    if (c.req.method === 'OPTIONS') return preflight(c, next)
    // Hono's middleware would have each reply made anew for these two.
    c.header('access-control-allow-origin', '*')
    c.header('access-control-expose-headers', EXPOSED.join(','))
    return next()
  })

  app.get('/v1/whoami', showCaller(deps))
  app.post('/v1/tenants', addTenant(deps))
  app.get('/v1/tenants', showTenants(deps))
  app.get('/v1/tenants/:tenant', showTenant(deps))
  app.patch('/v1/tenants/:tenant', changeTenant(deps))
  app.post('/v1/tenants/:tenant/keys', addKey(deps))
  app.get('/v1/tenants/:tenant/keys', showKeys(deps))
  app.delete('/v1/tenants/:tenant/keys/:key', dropKey(deps))
  app.get('/v1/tenants/:tenant/limits', showLimits(deps))
  for (const scope of ['/v1/tenants/:tenant', '/v1/tenants/:tenant/keys/:key']) {
    app.patch(`${scope}/limits`, changeLimits(deps))
    app.delete(`${scope}/limits`, dropLimits(deps))
  }
  app.post('/v1/tenants/:tenant/models/:model/versions', deployVersion(deps))
  app.post('/v1/tenants/:tenant/models/:model/uploads', planUpload(deps))
  app.post('/v1/tenants/:tenant/models/:model/uploads/complete', completeUpload(deps))
  app.get('/v1/tenants/:tenant/models', showModels(deps))
  app.get('/v1/tenants/:tenant/models/:model', showModel(deps))
  app.delete('/v1/tenants/:tenant/models/:model', dropModel(deps))
  app.patch('/v1/tenants/:tenant/models/:model/deployment', splitModel(deps))
  app.post('/v1/tenants/:tenant/models/:model/promote', promoteCanary(deps))
  app.post('/v1/tenants/:tenant/models/:model/rollback', rollBackModel(deps))
  app.get('/v1/tenants/:tenant/usage', showUsage(deps))
  app.get('/v1/tenants/:tenant/usage/events', showUsageEvents(deps))
  app.get('/v1/tenants/:tenant/usage/feed', showUsageFeed(deps))
  app.post('/v1/tenants/:tenant/invoices', addInvoice(deps))
  app.get('/v1/tenants/:tenant/invoices', showInvoices(deps))
  app.get('/v1/tenants/:tenant/invoices/:invoice', showInvoice(deps))
  app.post('/v1/tenants/:tenant/invoices/:invoice/finalize', closeInvoice(deps))
  app.get('/v1/tenants/:tenant/invoices/:invoice/export', downloadInvoice(deps))
  app.get('/v1/organization/usage/completions', showOrganizationUsage(deps))
  app.get('/v1/organization/costs', showOrganizationCosts(deps))
  app.get('/v1/prices', showPrices(deps))
  app.post('/v1/prices', setPrice(deps))
  app.get('/v1/hosts', showHosts(deps))
  app.get('/v1/hosts/:host', showHost(deps))
  app.post('/v1/hosts/:host/drain', wishOfHost(deps, 'drain'))
  app.post('/v1/hosts/:host/resume', wishOfHost(deps, 'serve'))
  app.delete('/v1/hosts/:host', dropHost(deps))
  app.get('/v1/pool/adapters', showPoolAdapters(deps))
  app.get('/v1/pool/latency', showPoolLatency(deps))
  app.get('/v1/pool/savings', showPoolSavings(deps))
  app.get('/v1/pool/model-use', showModelUse(deps))
  app.get('/v1/pool/books/differences', showBookDifferences(deps))
  app.get('/v1/pool/books/events', showBookedEvents(deps))
  app.get('/v1/pool/books/totals', showBookTotals(deps))
  app.get('/v1/pool/books/lag', showBookLag(deps))

  for (const base of ['/v1', '/:tenant/:model/v1']) {
    app.post(`${base}/chat/completions`, infer(deps, CHAT))
    app.post(`${base}/completions`, infer(deps, TEXT))
    app.get(`${base}/models`, listOpenaiModels(deps))
    app.get(`${base}/models/:id{.+}`, showOpenaiModel(deps))
  }
  return app
}
