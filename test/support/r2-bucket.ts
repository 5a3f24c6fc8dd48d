/**
 * A bucket of R2 as wrangler simulates it on one machine, behind R2's S3 API: what hosts keep packs
 * in where the edge is a Worker.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { PROJECT_ROOT } from './nozzle.ts'

export interface R2Bucket {
  /** What hosts are told of it. */
  readonly env: Readonly<Record<string, string>>
  stop(): Promise<void>
}

const WRANGLER = join(PROJECT_ROOT, 'node_modules', 'wrangler', 'bin', 'wrangler.js')
const BUCKET = 'nozzle-packs'
const KEYS = { accessKeyId: 'r2-key-id', secretAccessKey: 'r2-secret-of-a-bucket-on-one-machine' }
/** Where wrangler has R2's S3 API. */
const S3_PATH = '/cdn-cgi/local/r2/s3'
const CONFIG = {
  name: 'bucket',
  main: 'worker.js',
  compatibility_date: '2026-11-01',
  r2_buckets: [
    {
      binding: 'PACKS',
      bucket_name: BUCKET,
      local_dev: { experimental_s3_credentials: KEYS },
    },
  ],
}
/** A bucket is simulated beside a Worker only. */
const SCRIPT = `export default { fetch: () => new Response('') }`

export async function startR2Bucket(): Promise<R2Bucket> {
  const directory = mkdtempSync(join(tmpdir(), 'nozzle-r2-'))
  writeFileSync(join(directory, 'wrangler.json'), JSON.stringify(CONFIG))
  writeFileSync(join(directory, 'worker.js'), SCRIPT)
  const places = ['--ip', '127.0.0.1', '--port', '0', '--inspector-port', '0']
  const argv = [WRANGLER, 'dev', ...places, '--persist-to', join(directory, 'state')]
  const child = spawn(process.execPath, argv, {
    cwd: directory,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      WRANGLER_SEND_METRICS: 'false',
      WRANGLER_LOG_PATH: directory,
      CI: '1',
    },
  })
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM')
      await once(child, 'exit')
    }
    rmSync(directory, { recursive: true, force: true })
  }
  try {
    const origin = await readOrigin(child)
    return { env: toStoreEnv(origin), stop }
  } catch (error) {
    await stop()
    throw error
  }
}

function toStoreEnv(origin: string): Record<string, string> {
  return {
    NOZZLE_STORE: `s3://${BUCKET}`,
    NOZZLE_STORE_ENDPOINT: origin + S3_PATH,
    NOZZLE_STORE_REGION: 'auto',
    NOZZLE_STORE_ACCESS_KEY_ID: KEYS.accessKeyId,
    NOZZLE_STORE_SECRET_ACCESS_KEY: KEYS.secretAccessKey,
  }
}

async function readOrigin({ stdout, stderr }: ChildProcess): Promise<string> {
  if (stdout === null || stderr === null) throw new Error('output is piped')
  const said: string[] = []
  stderr.on('data', (bytes) => said.push(String(bytes)))
  for await (const line of createInterface({ input: stdout })) {
    said.push(line)
    const [, origin] = /Ready on (http:\S+)/.exec(line) ?? []
    if (origin === undefined) continue
    stdout.resume()
    return origin
  }
  throw new Error(`wrangler did not start:\n${said.join('\n')}`)
}
