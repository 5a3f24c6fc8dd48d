/**
 * Entry of the edge as a Cloudflare Worker: bindings → Neon's HTTP driver → app, once per isolate.
 * What an isolate remembers (keys, models, hosts, nonces) is its own; the database is the truth.
 */
import { neonConfig } from '@neondatabase/serverless'
import { openNeonDatabase } from '#db/neon.ts'
import { createApp } from './app.ts'
import { readEdgeConfig } from './config.ts'
import { createDeps, type Deps } from './deps.ts'
import { JobRunner } from './jobs/job-runner.ts'
import { createConsoleLog } from './log.ts'
import { BUNDLED_ASSETS } from './worker-assets.ts'

/** Secrets and vars; wrangler.jsonc says which is which. */
type Bindings = Readonly<Record<string, unknown>>

interface Isolate {
  readonly app: ReturnType<typeof createApp>
  readonly deps: Deps
  readonly jobs: JobRunner
}

let isolate: Isolate | null = null

function openIsolate(env: Bindings): Isolate {
  const config = readEdgeConfig(env)
  const { NOZZLE_NEON_FETCH_ENDPOINT: endpoint } = env
  // A database that speaks Neon's protocol elsewhere, such as a proxy before an own PostgreSQL.
  if (typeof endpoint === 'string' && endpoint !== '') neonConfig.fetchEndpoint = endpoint
  const { db, availability } = openNeonDatabase(config.databaseUrl)
  const fetch: typeof globalThis.fetch = (input, init) => globalThis.fetch(input, init)
  const { now: nowMs } = Date
  const deps = createDeps({
    ...{ config, db, availability, fetch, nowMs },
    log: createConsoleLog(config.logLevel),
    assets: BUNDLED_ASSETS,
  })
  return { app: createApp(deps), deps, jobs: new JobRunner(deps) }
}

/** Says which version of the Worker answered: a release waits for its own. */
function withVersion(response: Response, env: Bindings): Response {
  const { CF_VERSION_METADATA: version } = env
  if (typeof version !== 'object' || version === null || !('id' in version)) return response
  const named = new Response(response.body, response)
  named.headers.set('nozzle-worker-version', String(version.id))
  return named
}

export default {
  async fetch(request: Request, env: Bindings, context: ExecutionContext): Promise<Response> {
    isolate ??= openIsolate(env)
    const { app, deps } = isolate
    const measuring = deps.clock.keepInStep()
    // The first request waits for the time that it is dated by; the others have the last.
    if (deps.clock.offsetMs() === null) await measuring
    else context.waitUntil(measuring)
    // Held in this isolate's memory, which the cron trigger may not come to.
    if (deps.voids.size > 0) context.waitUntil(deps.voids.flush())
    const response = await app.fetch(request, env, context)
    return request.url.endsWith('/healthz') ? withVersion(response, env) : response
  },

  /** By the cron trigger, once a minute: what is due then. */
  async scheduled(_controller: ScheduledController, env: Bindings): Promise<void> {
    isolate ??= openIsolate(env)
    const { deps, jobs } = isolate
    await deps.clock.keepInStep()
    await jobs.runDueJobs()
  },
}
