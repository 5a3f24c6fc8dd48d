/**
 * Would an edge take this host's reports? Signs a report of nothing with NOZZLE_POOL_SECRET, dated
 * by the edge's own clock, so that a wrong secret is told from a wrong clock. Changes nothing
 * there. Run by `nozzle doctor` in a process of its own with the edge's URL; prints a line of JSON.
 */
import { randomUUID } from 'node:crypto'
import { toolClock } from '../clock.ts'
import { readPoolSecret } from '../config.ts'
import { errorText } from '../log.ts'
import { EDGE_ROUTES } from '../protocol.ts'
import { EdgeClient, EdgeRefusal } from './edge-client.ts'

const WAIT_MS = 5000
/** A report without events is refused for that, once its signature has been found right. */
const NO_EVENTS = { host_id: 'hst_doctor', events: [] }

type Outcome = 'accepted' | 'wrong_secret' | 'unclear'

async function check(edgeUrl: string): Promise<{ outcome: Outcome; why: string }> {
  const health = await fetch(new URL('/healthz', edgeUrl), { signal: AbortSignal.timeout(WAIT_MS) })
  await health.body?.cancel()
  const edgeMs = Date.parse(health.headers.get('date') ?? '')
  const nowMs = (): number => (Number.isNaN(edgeMs) ? Date.now() : edgeMs)
  const poolSecret = readPoolSecret()
  const client = new EdgeClient({ edgeUrl, poolSecret, clock: { ...toolClock, nowMs }, fetch })
  try {
    await client.post(EDGE_ROUTES.usage, `req_${randomUUID()}`, NO_EVENTS, WAIT_MS)
  } catch (error) {
    if (!(error instanceof EdgeRefusal)) throw error
    if (error.code === 'invalid_request') return { outcome: 'accepted', why: '' }
    const isSecret = error.code === 'host_signature_invalid'
    return { outcome: isSecret ? 'wrong_secret' : 'unclear', why: error.message }
  }
  return { outcome: 'unclear', why: 'the edge took a report of nothing' }
}

const [edgeUrl = ''] = process.argv.slice(2)
const reply = await check(edgeUrl).catch((error: unknown) => {
  return { outcome: 'unclear', why: errorText(error) }
})
process.stdout.write(`${JSON.stringify(reply)}\n`)
