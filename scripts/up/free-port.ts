/** Whether the edge will get its port: told before minutes of downloads, not after. */
import { once } from 'node:events'
import { createServer } from 'node:net'
import { CliError } from '../lib/cli-error.ts'

/** The edge's own defaults, see edge/config.ts. */
const PORT_DEFAULT = '8787'
const ADDRESS_DEFAULT = '127.0.0.1'

/** Throws `refused` where somebody else has it; what else is wrong with it the edge will say. */
export async function requireFreePort(env: NodeJS.ProcessEnv): Promise<void> {
  const port = Number(env.NOZZLE_PORT || PORT_DEFAULT)
  if (!Number.isInteger(port) || port < 1 || port > 65_535) return
  const server = createServer()
  try {
    server.listen(port, env.NOZZLE_ADDRESS || ADDRESS_DEFAULT)
    await once(server, 'listening')
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')) return
    const fix = 'Choose another NOZZLE_PORT, or 0 for any free one.'
    throw new CliError('refused', `port ${port} is in use`, fix)
  }
  server.close()
  await once(server, 'close')
}
