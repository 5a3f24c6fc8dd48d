/**
 * The peer LiteLLM: its proxy, installed on demand, in front of one OpenAI-compatible server. As
 * light as its manual allows: a master key, no database, no retries, no callbacks, one worker per
 * core.
 */
import { writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { NATIVE_PATHS } from '../../native/paths.ts'
import type { GatewayPeer, GatewaySetup } from './gateway.ts'
import { ensurePythonPeer } from './python-environment.ts'
import { ServerProcess } from './server-process.ts'

export const LITELLM_RELEASE = 'litellm 1.106.12'
const REQUIREMENTS = fileURLToPath(new URL('./litellm-requirements.txt', import.meta.url))
const KEY = 'sk-bench'

export async function startLitellm(setup: GatewaySetup): Promise<GatewayPeer> {
  const { port, hostUrl, directory } = setup
  const python = ensurePythonPeer({
    name: 'LiteLLM',
    directory: join(NATIVE_PATHS.cacheDir, 'litellm'),
    requirements: REQUIREMENTS,
    size: '0.7 GB on disk',
  })
  const config = join(directory, 'litellm.json')
  writeFileSync(config, JSON.stringify(toConfig(hostUrl)))
  const url = `http://127.0.0.1:${port}`
  const flags = { config, host: '127.0.0.1', port, num_workers: availableParallelism() }
  const server = await ServerProcess.start({
    name: LITELLM_RELEASE,
    command: join(dirname(python), 'litellm'),
    args: Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)]),
    env: {
      LITELLM_MODE: 'PRODUCTION',
      LITELLM_LOG: 'ERROR',
      // Nothing is fetched from elsewhere.
      LITELLM_LOCAL_MODEL_COST_MAP: 'True',
    },
    logPath: join(directory, 'litellm.log'),
    readyUrl: `${url}/health/liveliness`,
  })
  return {
    release: LITELLM_RELEASE,
    call: {
      origin: url,
      path: '/v1/chat/completions',
      headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' },
      model: 'stub',
    },
    cpuMs: () => server.cpuMs(),
    stop: () => server.stop(),
  }
}

/** JSON is YAML. */
function toConfig(hostUrl: string): object {
  const params = { model: 'openai/stub', api_base: `${hostUrl}/v1`, api_key: 'none' }
  return {
    model_list: [{ model_name: 'stub', litellm_params: params }],
    litellm_settings: { num_retries: 0, callbacks: [], telemetry: false },
    general_settings: { master_key: KEY, disable_spend_logs: true },
  }
}
