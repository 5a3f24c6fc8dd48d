/**
 * The peer Portkey: its open gateway on Node, installed on demand. It has no keys of its own; which
 * server a request goes to is in its headers.
 */
import { join } from 'node:path'
import { NATIVE_PATHS } from '../../native/paths.ts'
import type { GatewayPeer, GatewaySetup } from './gateway.ts'
import { ensureNpmPeer } from './npm-peer.ts'
import { ServerProcess } from './server-process.ts'

const PORTKEY_VERSION = '1.15.2'
export const PORTKEY_RELEASE = `@portkey-ai/gateway ${PORTKEY_VERSION}`

export async function startPortkey(setup: GatewaySetup): Promise<GatewayPeer> {
  const { port, hostUrl, directory } = setup
  const entry = ensureNpmPeer({
    directory: join(NATIVE_PATHS.cacheDir, 'portkey'),
    release: `@portkey-ai/gateway@${PORTKEY_VERSION}`,
    entry: join('node_modules', '@portkey-ai', 'gateway', 'build', 'start-server.js'),
    downloadMb: 60,
    // With 1.14 and later, which its range allows, each of its streams ends with 500.
    overrides: { '@hono/node-server': '1.13.8' },
  })
  const url = `http://127.0.0.1:${port}`
  const server = await ServerProcess.start({
    name: PORTKEY_RELEASE,
    command: process.execPath,
    args: [entry, `--port=${port}`, '--headless'],
    env: { NODE_ENV: 'production' },
    logPath: join(directory, 'portkey.log'),
    readyUrl: `${url}/`,
  })
  return {
    release: PORTKEY_RELEASE,
    call: {
      origin: url,
      path: '/v1/chat/completions',
      headers: {
        authorization: 'Bearer none',
        'content-type': 'application/json',
        'x-portkey-provider': 'openai',
        'x-portkey-custom-host': `${hostUrl}/v1`,
      },
      model: 'stub',
    },
    cpuMs: () => server.cpuMs(),
    stop: () => server.stop(),
  }
}
