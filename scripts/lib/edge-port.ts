/** The port that the edge of this machine's pool listens on, by the edge's own defaults. */
import { once } from 'node:events'
import { createServer } from 'node:net'
import { CliError } from './cli-error.ts'

const PORT_DEFAULT = 8787
const ADDRESS_DEFAULT = '127.0.0.1'

export interface EdgePort {
  /** 0 = any. */
  readonly port: number
  /** Why it cannot be listened on; null = it can. */
  readonly fault: Error | null
}

/** Listens on it for a moment. */
export async function probeEdgePort(env: NodeJS.ProcessEnv): Promise<EdgePort> {
  const port = Number(env.NOZZLE_PORT || PORT_DEFAULT)
  const server = createServer()
  try {
    server.listen(port, env.NOZZLE_ADDRESS || ADDRESS_DEFAULT)
    await once(server, 'listening')
  } catch (error) {
    return { port, fault: error instanceof Error ? error : new Error(String(error)) }
  }
  server.close()
  await once(server, 'close')
  return { port, fault: null }
}

/** Throws `refused` where somebody else has it; what else is wrong with it the edge will say. */
export async function requireFreePort(env: NodeJS.ProcessEnv): Promise<void> {
  const { port, fault } = await probeEdgePort(env)
  if (fault === null || !('code' in fault) || fault.code !== 'EADDRINUSE') return
  const fix = 'Choose another NOZZLE_PORT, or 0 for any free one.'
  throw new CliError('refused', `port ${port} is in use`, fix)
}
