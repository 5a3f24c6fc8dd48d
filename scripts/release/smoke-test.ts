/**
 * Whether a new version of an edge does what an edge must: it is the one that answers, reaches its
 * database, knows the operator and nobody else. Asked again until it does, or time is up.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'

export interface SmokeTarget {
  readonly url: string
  readonly versionId: string
  readonly baseModelName: string
  readonly operatorKey: string
  readonly withinMs: number
}

/** Which version answers; edge/worker.ts writes it on /healthz. */
const VERSION_HEADER = 'nozzle-worker-version'
const ASK_EVERY_MS = 1000
const ANSWER_MS_MAX = 10_000
const health = z.object({ status: z.string(), base_model: z.string() })

/** null = well; else what was wrong at the last look. */
export async function smokeTest(target: SmokeTarget, signal: AbortSignal): Promise<string | null> {
  const until = performance.now() + target.withinMs
  for (;;) {
    const fault = await findFault(target, signal).catch((error: unknown) =>
      error instanceof Error ? error.message : String(error),
    )
    if (fault === null) return null
    if (signal.aborted) return 'it was interrupted'
    if (performance.now() + ASK_EVERY_MS > until) return fault
    await sleep(ASK_EVERY_MS)
  }
}

async function findFault(target: SmokeTarget, signal: AbortSignal): Promise<string | null> {
  const ask = (path: string, key: string | null): Promise<Response> =>
    fetch(target.url.replace(/\/+$/, '') + path, {
      headers: key === null ? {} : { authorization: `Bearer ${key}` },
      signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS_MAX)]),
    })
  const healthy = await ask('/healthz', null)
  const text = await healthy.text()
  const version = healthy.headers.get(VERSION_HEADER)
  if (healthy.status !== 200) return `/healthz answers ${healthy.status}`
  if (version !== target.versionId) return `version ${version ?? 'unknown'} answers still`
  const said = health.parse(JSON.parse(text))
  if (said.status !== 'ok') return `/healthz says ${said.status}: the database is away`
  if (said.base_model !== target.baseModelName) return `it serves ${said.base_model}`
  const operator = await ask('/v1/whoami', target.operatorKey)
  await operator.body?.cancel()
  if (operator.status !== 200) return `the operator key is answered ${operator.status}`
  const stranger = await ask('/v1/models', 'nz_unknown')
  await stranger.body?.cancel()
  if (stranger.status !== 401) return `an unknown key is answered ${stranger.status}, not 401`
  return null
}
