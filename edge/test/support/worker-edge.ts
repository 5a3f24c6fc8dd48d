/**
 * The Worker as a process that can be started in place of `edge/node.ts`: the same environment, the
 * same word once it serves, the same end by SIGTERM, SIGINT or the death of its parent. Around
 * workerd is what Cloudflare and Neon are in earnest: migrations before the release, Neon's HTTP
 * in front of the PostgreSQL at NOZZLE_DATABASE_URL, a cron trigger each minute.
 * NOZZLE_WORKER_BUNDLE names a directory that `buildWorker` filled.
 */
import { z } from 'zod'
import { openDatabase } from '../../../db/client.ts'
import { startNeonEndpoint } from '../../../db/test/support/neon-endpoint.ts'
import { readBundle } from './worker-bundle.ts'
import { startWorkerd } from './workerd.ts'

const CRON_MS = 60_000
/** Requests under way have as long as at a Node edge that stops. */
const STOP_MS_MAX = 30_000
/** Names any database: the endpoint answers for its own. */
const NEON_URL = 'postgres://user:secret@neon.test/nozzle'

const env = z
  .object({
    NOZZLE_DATABASE_URL: z.string().startsWith('postgres'),
    NOZZLE_WORKER_BUNDLE: z.string().min(1),
    NOZZLE_PORT: z.coerce.number().int().default(8787),
  })
  .parse(process.env)

async function main(): Promise<void> {
  const database = await openDatabase(env.NOZZLE_DATABASE_URL)
  await database.migrate()
  await database.close()
  const endpoint = await startNeonEndpoint(env.NOZZLE_DATABASE_URL)
  const workerd = await startWorkerd({
    bundle: readBundle(env.NOZZLE_WORKER_BUNDLE),
    port: env.NOZZLE_PORT,
    bindings: {
      ...ownVariables(),
      NOZZLE_DATABASE_URL: NEON_URL,
      NOZZLE_NEON_FETCH_ENDPOINT: endpoint.url,
    },
    onOutput: (bytes) => process.stderr.write(bytes),
  })
  let isStopping = false
  void workerd.gone.then(() => {
    if (!isStopping) process.exit(1)
  })
  const cron = setInterval(() => {
    workerd.fireCron().catch((error: unknown) => process.stderr.write(`cron: ${error}\n`))
  }, CRON_MS)
  const stop = async (): Promise<void> => {
    if (isStopping) process.exit(1)
    isStopping = true
    clearInterval(cron)
    setTimeout(() => process.exit(1), STOP_MS_MAX).unref()
    await workerd.stop()
    await endpoint.close()
    process.exit(0)
  }
  for (const reason of ['SIGTERM', 'SIGINT', 'disconnect'] as const) {
    process.on(reason, () => void stop())
  }
  process.send?.({ type: 'ready', url: workerd.url })
}

/** What the Worker is told as vars and secrets. */
function ownVariables(): Record<string, string> {
  const own = Object.entries(process.env).filter(([name]) => /^(NOZZLE|OTEL)_/.test(name))
  return Object.fromEntries(own.map(([name, value]) => [name, value ?? '']))
}

await main()
