/**
 * Entry of the edge as a Cloudflare Worker: bindings → Neon's HTTP driver → app, once per isolate.
 * What an isolate remembers (keys, models, hosts, nonces) is its own; the database is the truth.
 */
import { neonConfig } from '@neondatabase/serverless'
import { openNeonDatabase } from '#db/neon.ts'
import { createApp } from './app.ts'
import { readEdgeConfig } from './config.ts'
import { createDeps } from './deps.ts'
import { consoleLog } from './log.ts'

/** Secrets and vars; wrangler.jsonc says which is which. */
type Bindings = Readonly<Record<string, unknown>>

let app: ReturnType<typeof createApp> | null = null

function openApp(env: Bindings): ReturnType<typeof createApp> {
  const config = readEdgeConfig(env)
  const { NOZZLE_NEON_FETCH_ENDPOINT: endpoint } = env
  // A database that speaks Neon's protocol elsewhere, such as a proxy before an own PostgreSQL.
  if (typeof endpoint === 'string' && endpoint !== '') neonConfig.fetchEndpoint = endpoint
  const db = openNeonDatabase(config.databaseUrl)
  const fetch: typeof globalThis.fetch = (input, init) => globalThis.fetch(input, init)
  return createApp(createDeps({ config, db, fetch, log: consoleLog, nowMs: Date.now }))
}

export default {
  async fetch(request: Request, env: Bindings, context: ExecutionContext): Promise<Response> {
    app ??= openApp(env)
    return app.fetch(request, env, context)
  },
}
